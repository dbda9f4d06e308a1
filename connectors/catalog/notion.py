"""Notion's API, version 2022-06-28 (https://developers.notion.com/reference: search, pages, block children)."""

from typing import Annotated, Any

from pydantic import Field

from connectors.base import Category, Connector, Cursor, Kind, Limit
from connectors.rest import Rest

notion = Connector(
    slug="notion", name="Notion", category=Category.PRODUCTIVITY, kind=Kind.OAUTH,
    description="Pages that the person who signed in has shared: search, read, create.",
    url="https://api.notion.com/v1", docs="https://notion.so/my-integrations", headers={"Notion-Version": "2022-06-28"},
    steps=("At notion.so/my-integrations choose New integration, and make it a public one.",
           "Add the redirect URI below.", "Copy the OAuth client ID and the OAuth client secret."),
    auth={"authorization_url": "https://api.notion.com/v1/oauth/authorize",  # no scopes: people choose pages there
          "token_url": "https://api.notion.com/v1/oauth/token",
          "revocation_url": "https://api.notion.com/v1/oauth/revoke",
          "token_endpoint_auth_method": "client_secret_basic", "extra_authorize_params": {"owner": "user"}},
)  # fmt: skip
Id = Annotated[str, Field(pattern=r"^[0-9a-fA-F-]{32,36}$", description="The id of a page, as search gives it")]


@notion.tool("Search")
async def notion_search(api: Rest, query: str, limit: Limit = 20, cursor: Cursor = None) -> dict[str, Any]:
    """Pages and databases whose title matches. `next_cursor` gets the next page; null ends the list."""
    said = await api.post("search", query=query, page_size=limit, start_cursor=cursor)
    return {"results": [shown(each) for each in said["results"]], "next_cursor": said.get("next_cursor")}


@notion.tool("Read a page")
async def notion_get_page(api: Rest, page_id: Id, cursor: Cursor = None) -> dict[str, Any]:
    """A page's title and text. `next_cursor` gets what follows in a long one; null: that was all."""
    page = await api.get(f"pages/{page_id}")
    said = await api.get(f"blocks/{page_id}/children", page_size=100, start_cursor=cursor)
    text = "\n".join(text_of(block.get(block["type"], {}).get("rich_text", [])) for block in said["results"])
    return {**shown(page), "text": text, "next_cursor": said.get("next_cursor")}


@notion.tool("Create a page", only_reads=False)
async def notion_create_page(api: Rest, parent_page_id: Id, title: str, text: str = "") -> dict[str, Any]:
    """A new page under another one; each line of `text` becomes a paragraph, all from the hundredth on become one."""
    lines = text.split("\n", 99) if text else []  # Notion takes a hundred blocks
    blocks = [{"type": "paragraph", "paragraph": {"rich_text": rich(line)}} for line in lines]
    named = {"title": {"title": rich(title)}}
    return shown(await api.post("pages", parent={"page_id": parent_page_id}, properties=named, children=blocks))


def rich(text: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": {"content": text[at : at + 2000]}} for at in range(0, len(text), 2000)]


def text_of(rich_text: list[dict[str, Any]]) -> str:
    return "".join(part.get("plain_text", "") for part in rich_text)


def shown(item: dict[str, Any]) -> dict[str, Any]:
    titles = (each["title"] for each in item.get("properties", {}).values() if each.get("type") == "title")
    title = text_of(item.get("title") or next(titles, []))
    return {"id": item["id"], "kind": item["object"], "title": title, "url": item.get("url")}
