"""Notion's API, version 2022-06-28 (https://developers.notion.com/reference: search, pages, block children)."""

from typing import Annotated, Any

from pydantic import Field

from connectors.base import Category, Connector, Kind
from connectors.rest import Rest

notion = Connector(
    slug="notion", name="Notion", category=Category.PRODUCTIVITY, kind=Kind.OAUTH,
    description="Pages that the person who signed in has shared: search, read, create.",
    url="https://api.notion.com/v1", docs="https://www.notion.so/my-integrations",
    headers={"Notion-Version": "2022-06-28"},
    steps=("At notion.so/my-integrations choose New integration, and make it a public one.",
           "Add the redirect URI below.",
           "Copy the OAuth client ID and the OAuth client secret."),
    # https://developers.notion.com/docs/authorization: no scopes; people choose pages while they consent.
    auth={"authorization_url": "https://api.notion.com/v1/oauth/authorize",
          "token_url": "https://api.notion.com/v1/oauth/token",
          "revocation_url": "https://api.notion.com/v1/oauth/revoke",
          "token_endpoint_auth_method": "client_secret_basic", "extra_authorize_params": {"owner": "user"}},
)  # fmt: skip
Id = Annotated[str, Field(pattern=r"^[0-9a-fA-F-]{32,36}$", description="The id of a page, as search gives it")]
Limit = Annotated[int, Field(ge=1, le=100, description="How many to return")]


@notion.tool("Search")
async def notion_search(api: Rest, query: str, limit: Limit = 20, cursor: str | None = None) -> dict[str, Any]:
    """Pages and databases whose title matches. `next_cursor` gets the next page; null ends the list."""
    said = await api.post("search", query=query, page_size=limit, start_cursor=cursor)
    found = [{"id": each["id"], "kind": each["object"], "title": title_of(each), "url": each.get("url")}
             for each in said["results"]]  # fmt: skip
    return {"results": found, "next_cursor": said["next_cursor"] if said.get("has_more") else None}


@notion.tool("Read a page")
async def notion_get_page(api: Rest, page_id: Id, cursor: str | None = None) -> dict[str, Any]:
    """A page's title and text. `next_cursor` gets what follows in a long one; null: that was all."""
    page = await api.get(f"pages/{page_id}")
    said = await api.get(f"blocks/{page_id}/children", page_size=100, start_cursor=cursor)
    text = "\n".join(text_of(block.get(block["type"], {}).get("rich_text", [])) for block in said["results"])
    following = said["next_cursor"] if said.get("has_more") else None
    return {"id": page["id"], "title": title_of(page), "url": page.get("url"), "text": text, "next_cursor": following}


@notion.tool("Create a page", only_reads=False)
async def notion_create_page(api: Rest, parent_page_id: Id, title: str, text: str = "") -> dict[str, Any]:
    """A new page under another one; each line of `text`, up to a hundred, becomes a paragraph."""
    blocks = [{"type": "paragraph", "paragraph": {"rich_text": rich(line)}} for line in text.splitlines()]
    named = {"title": {"title": rich(title)}}
    page = await api.post("pages", parent={"page_id": parent_page_id}, properties=named, children=blocks[:100])
    return {"id": page["id"], "url": page.get("url")}


def rich(text: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": {"content": text[:2000]}}]  # the most that one piece may hold


def text_of(rich_text: list[dict[str, Any]]) -> str:
    return "".join(part.get("plain_text", "") for part in rich_text)


def title_of(item: dict[str, Any]) -> str:
    titles = (each["title"] for each in item.get("properties", {}).values() if each.get("type") == "title")
    return text_of(item.get("title") or next(titles, []))
