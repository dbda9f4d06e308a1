"""Slack's Web API (https://docs.slack.dev/apis/web-api: conversations.list, chat.postMessage, search.messages).

Everything is answered with 200; `ok` tells whether it went well, `error` why not, `needed` which scope is missing.
"""

from typing import Any

from connectors.base import Category, Connector, Cursor, Kind, Limit, Page
from connectors.rest import Answer, Problem, Rest

SIGNED_OUT = {"invalid_auth", "not_authed", "token_revoked", "token_expired", "account_inactive"}


def problem(answer: Answer) -> Problem | None:
    said = answer.body if isinstance(answer.body, dict) else {}
    if answer.failed or said.get("ok"):
        return None
    error = str(said.get("error", "no answer that can be read"))
    needed = tuple(str(said.get("needed", "")).split(",")) if error == "missing_scope" else ()
    return Problem(401 if error in SIGNED_OUT else 400, error, scopes=needed)


slack = Connector(
    slug="slack", name="Slack", category=Category.COMMUNICATION, kind=Kind.OAUTH,
    description="Channels, messages and search, as the person who signed in.",
    url="https://slack.com/api", docs="https://api.slack.com/apps", problem=problem,
    steps=("At api.slack.com/apps choose Create New App, From scratch.",
           "Under OAuth & Permissions add the redirect URL below, and the scopes below as User Token Scopes.",
           "Under Basic Information copy the Client ID and the Client Secret."),
    scopes={"channels:read": "List channels", "chat:write": "Send messages", "search:read": "Search messages"},
    # The sign-in that gives a person's token alone (https://docs.slack.dev/authentication/installing-with-oauth)
    auth={"authorization_url": "https://slack.com/oauth/v2_user/authorize",
          "token_url": "https://slack.com/api/oauth.v2.user.access",
          "revocation_url": "https://slack.com/api/auth.revoke", "preset": "slack"},
)  # fmt: skip


@slack.tool("List channels", "channels:read")
async def slack_list_channels(api: Rest, limit: Limit = 100, cursor: Cursor = None) -> dict[str, Any]:
    """The public channels of the workspace, by id and name. `next_cursor` gets the next page; null ends the list."""
    said = await api.get("conversations.list", exclude_archived=True, limit=limit, cursor=cursor)
    names = [{"id": c["id"], "name": c["name"], "topic": c.get("topic", {}).get("value", "")} for c in said["channels"]]
    return {"channels": names, "next_cursor": said.get("response_metadata", {}).get("next_cursor") or None}


@slack.tool("Send a message", "chat:write", only_reads=False)
async def slack_send_message(api: Rest, channel: str, text: str, thread_ts: str | None = None) -> dict[str, Any]:
    """Send a message to a channel (its id), or into the thread of the message `thread_ts`."""
    said = await api.post("chat.postMessage", channel=channel, text=text, thread_ts=thread_ts)
    return {"channel": said["channel"], "ts": said["ts"]}


@slack.tool("Search messages", "search:read")
async def slack_search_messages(api: Rest, query: str, limit: Limit = 20, page: Page = 1) -> dict[str, Any]:
    """Messages that match a search as one would type it in Slack, newest first. `next_page` is null at the end."""
    found = (await api.get("search.messages", query=query, count=limit, page=page, sort="timestamp"))["messages"]
    kept = [{"text": m["text"], "user": m.get("username"), "ts": m["ts"], "channel": m["channel"]["name"],
             "link": m.get("permalink")} for m in found["matches"]]  # fmt: skip
    more = page < min(found.get("paging", {}).get("pages", 1), 100)  # Slack shows the first hundred pages
    return {"messages": kept, "total": found["total"], "next_page": page + 1 if more else None}
