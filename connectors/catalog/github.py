"""GitHub's REST API, version 2022-11-28 (https://docs.github.com/rest: repos, search, rate limits)."""

from typing import Any

from connectors.base import Category, Connector, Kind, Limit, Page
from connectors.rest import Answer, Problem, Rest, brief, problem_of, retry_after


def problem(answer: Answer) -> Problem | None:
    """A limit is a 403 or 429 that says when it ends; a scope that is wanted stands in a header of a 403 or 404."""
    found = problem_of(answer)
    if found is None or found.status not in (403, 404):
        return found
    if found.status == 403 and (wait := retry_after(answer.headers)) is not None:
        return Problem(429, found.words, wait=wait)
    held, wanted = (set(filter(None, answer.headers.get(name, "").replace(" ", "").split(",")))
                    for name in ("x-oauth-scopes", "x-accepted-oauth-scopes"))  # fmt: skip
    # Tokens of a GitHub App have no scopes, and no header that names them.
    lacks = "x-oauth-scopes" in answer.headers and bool(wanted) and not wanted & held
    return Problem(403, found.words, lacks_scope=True) if lacks else found


github = Connector(
    slug="github", name="GitHub", category=Category.DEVELOPMENT, kind=Kind.OAUTH,
    description="Repositories and issues, as the person who signed in.",
    url="https://api.github.com", docs="https://github.com/settings/developers", problem=problem,
    headers={"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"},
    steps=(
        "At github.com/settings/developers choose New OAuth App.",
        "Set the authorization callback URL to the address below.",
        "Copy the Client ID, generate a client secret and copy that too.",
    ),
    scopes={"repo": "Repositories and issues, private ones too"},
    auth={"authorization_url": "https://github.com/login/oauth/authorize",
          "token_url": "https://github.com/login/oauth/access_token",
          "revocation_url": "https://api.github.com/applications/{client_id}/token", "preset": "github"},
)  # fmt: skip


@github.tool("List repositories", "repo")
async def github_list_repos(api: Rest, limit: Limit = 30, page: Page = 1) -> dict[str, Any]:
    """The repositories one can see, those that changed last first. `next_page` is null at the end."""
    said = await api.get("user/repos", sort="updated", per_page=limit, page=page)
    names = ("full_name", "description", "private", "html_url", "language", "open_issues_count", "updated_at")
    found = [brief(each, *names) for each in said]
    return {"repositories": found, "next_page": page + 1 if len(said) == limit else None}


@github.tool("Search issues", "repo")
async def github_search_issues(api: Rest, query: str, limit: Limit = 30, page: Page = 1) -> dict[str, Any]:
    """Issues and pull requests for a query as one would type it at GitHub, such as `repo:owner/name is:open bug`."""
    said = await api.get("search/issues", q=query, per_page=limit, page=page)
    kept = [{"repository": i["repository_url"].split("/repos/")[-1], "number": i["number"], "title": i["title"],
             "state": i["state"], "author": (i.get("user") or {}).get("login"), "url": i["html_url"],
             "is_pull_request": "pull_request" in i} for i in said["items"]]  # fmt: skip
    more = page * limit < min(said["total_count"], 1000)  # GitHub shows the first thousand
    return {"issues": kept, "total": said["total_count"], "next_page": page + 1 if more else None}
