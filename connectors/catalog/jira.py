"""Jira Cloud's API (https://developer.atlassian.com/cloud/jira/platform/rest/v2); version 3 has no plain texts."""

from typing import Annotated, Any

from pydantic import Field

from connectors.atlassian import Site, at_site, problem
from connectors.base import Category, Connector, Cursor, Kind, Limit
from connectors.rest import Rest, brief

FIELDS = ["summary", "status", "issuetype", "priority", "assignee", "updated"]
READ, WRITE = "read:jira-work", "write:jira-work"

jira = Connector(
    slug="jira", name="Jira", category=Category.DEVELOPMENT, kind=Kind.OAUTH, problem=problem,
    description="Issues of Jira Cloud, as the person who signed in: search, read, create.",
    url="https://api.atlassian.com", docs="https://developer.atlassian.com/console/myapps",
    steps=("In the developer console create an OAuth 2.0 integration.",
           "Under Permissions add the Jira API, with the two jira-work scopes below.",
           "Under Authorization add the redirect URI below. Under Settings copy the Client ID and the Secret."),
    scopes={READ: "Search and read issues", WRITE: "Create issues", "offline_access": "Stay connected"},
    auth={"authorization_url": "https://auth.atlassian.com/authorize", "preset": "atlassian",
          "token_url": "https://auth.atlassian.com/oauth/token"},
)  # fmt: skip
Key = Annotated[str, Field(pattern="^[A-Za-z][A-Za-z0-9_]*-[0-9]+$", description="Such as ED-24")]


@jira.tool("Search issues", READ)
async def jira_search_issues(
    api: Rest, jql: str, limit: Limit = 30, cursor: Cursor = None, site: Site = ""
) -> dict[str, Any]:
    """Issues for a bounded JQL query, such as `project = ED ORDER BY updated`. `next_cursor` gets the next page."""
    asked = {"jql": jql, "fields": FIELDS, "maxResults": limit, "nextPageToken": cursor}
    said = await (await at_site(api, "jira", site)).post("rest/api/2/search/jql", **asked)
    found = [{"key": each["key"], **brief(each["fields"], *FIELDS)} for each in said["issues"]]
    return {"issues": found, "next_cursor": said.get("nextPageToken")}


@jira.tool("Get an issue", READ)
async def jira_get_issue(api: Rest, key: Key, site: Site = "") -> dict[str, Any]:
    """One issue with its description."""
    names = [*FIELDS, "description", "reporter", "created"]
    issue = await (await at_site(api, "jira", site)).get(f"rest/api/2/issue/{key}", fields=",".join(names))
    return {"key": issue["key"], **brief(issue["fields"], *names)}


@jira.tool("Create an issue", WRITE, only_reads=False)
async def jira_create_issue(
    api: Rest, project: str, summary: str, description: str = "", issue_type: str = "Task", site: Site = ""
) -> dict[str, Any]:
    """A new issue of a project, which is given by its key, such as ED."""
    fields = {"project": {"key": project}, "summary": summary, "issuetype": {"name": issue_type}}
    if description:
        fields["description"] = description
    made = await (await at_site(api, "jira", site)).post("rest/api/2/issue", fields=fields)
    return {"key": made["key"]}
