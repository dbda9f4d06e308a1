"""Linear's GraphQL API (https://linear.app/developers/graphql: issues, searchIssues, teams, issueCreate, limits)."""

from typing import Any

from connectors.base import Category, Connector, Cursor, Kind, Limit
from connectors.rest import Answer, Problem, Rest, retry_after

STATUS = {"AUTHENTICATION_ERROR": 401, "FORBIDDEN": 403, "RATELIMITED": 429}
PAGE = "pageInfo { hasNextPage endCursor }"
ISSUE = "identifier title url priorityLabel updatedAt state { name } assignee { name } team { key }"


def problem(answer: Answer) -> Problem | None:
    """Errors come with any status: limits with 400, some with 200. Their code tells what they are."""
    if not isinstance(answer.body, dict) or not (errors := answer.body.get("errors")):
        return None
    more = errors[0].get("extensions", {})
    status = STATUS.get(more.get("code"), max(400, answer.status))
    lacks_scope = status == 403 and errors[0]["message"].startswith("Invalid scope")
    words = more.get("userPresentableMessage") or errors[0]["message"]
    return Problem(status, words, lacks_scope=lacks_scope, wait=retry_after(answer.headers))


linear = Connector(
    slug="linear", name="Linear", category=Category.DEVELOPMENT, kind=Kind.OAUTH, problem=problem,
    description="Teams and issues, as the person who signed in: list, search, create.",
    url="https://api.linear.app", docs="https://linear.app/settings/api/applications/new",
    steps=("Make an application with the redirect URI below.", "Copy the Client ID and the Client secret."),
    scopes={"issues:create": "Create issues. Reading is always allowed"},
    auth={"authorization_url": "https://linear.app/oauth/authorize", "token_url": "https://api.linear.app/oauth/token",
          "revocation_url": "https://api.linear.app/oauth/revoke", "preset": "linear"},
)  # fmt: skip


@linear.tool("List teams")
async def linear_list_teams(api: Rest, limit: Limit = 50, cursor: Cursor = None) -> dict[str, Any]:
    """The teams one can see. `next_cursor` gets the next page; null ends the list."""
    return await listed(api, "teams(first: $first, after: $after)", "id key name", first=limit, after=cursor)


@linear.tool("Search issues")
async def linear_search_issues(api: Rest, text: str, limit: Limit = 30, cursor: Cursor = None) -> dict[str, Any]:
    """Issues whose title or description has this text. `next_cursor` gets the next page; null ends the list."""
    found = "searchIssues(term: $term, first: $first, after: $after)"
    return await listed(api, found, ISSUE, "$term: String!, ", term=text, first=limit, after=cursor)


@linear.tool("Create an issue", "issues:create", only_reads=False)
async def linear_create_issue(api: Rest, team_id: str, title: str, description: str = "") -> dict[str, Any]:
    """A new issue of a team (its id, as linear_list_teams gives it). The description is Markdown."""
    ask = f"mutation($input: IssueCreateInput!) {{ issueCreate(input: $input) {{ issue {{ {ISSUE} }} }} }}"
    given = {"teamId": team_id, "title": title, "description": description}
    return dict((await api.post("graphql", query=ask, variables={"input": given}))["data"]["issueCreate"]["issue"])


async def listed(api: Rest, found: str, node: str, takes: str = "", **given: Any) -> dict[str, Any]:
    ask = f"query({takes}$first: Int!, $after: String) {{ found: {found} {{ nodes {{ {node} }} {PAGE} }} }}"
    said = (await api.post("graphql", query=ask, variables=given))["data"]["found"]
    page = said["pageInfo"]
    return {"found": said["nodes"], "next_cursor": page["endCursor"] if page["hasNextPage"] else None}
