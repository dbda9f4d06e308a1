"""Google Drive's API, version 3 (https://developers.google.com/workspace/drive/api: files, export, errors)."""

from typing import Annotated, Any

from pydantic import Field

from connectors.base import Category, Connector, Cursor, Kind, Limit, Offset
from connectors.rest import Answer, Problem, Rest

READ, OWN = "https://www.googleapis.com/auth/drive.readonly", "application/vnd.google-apps."
EXPORTS = {f"{OWN}document": "text/plain", f"{OWN}presentation": "text/plain", f"{OWN}spreadsheet": "text/csv"}
TEXTS = ("text/", "application/json", "application/xml", "application/yaml")
FIELDS = "id,name,mimeType,modifiedTime,webViewLink"


def problem(answer: Answer) -> Problem | None:
    """Limits and missing scopes are a 403 like any other; `reason` tells them apart."""
    error = answer.body.get("error", {}) if answer.status == 403 else {}
    why = {each.get("reason") for each in (*error.get("errors", ()), *error.get("details", ()))}
    if why & {"rateLimitExceeded", "userRateLimitExceeded"}:
        return Problem(429, error["message"])
    lacks = why & {"insufficientPermissions", "ACCESS_TOKEN_SCOPE_INSUFFICIENT"}
    return Problem(403, error["message"], lacks_scope=True) if lacks else None


drive = Connector(
    slug="drive", name="Google Drive", category=Category.PRODUCTIVITY, kind=Kind.OAUTH, problem=problem,
    description="Files that the person who signed in can see: search, list, read as text.",
    url="https://www.googleapis.com/drive/v3", docs="https://console.cloud.google.com/apis/credentials",
    steps=("In the Google Cloud console enable the Google Drive API, and add the scope below to the consent screen.",
           "Create an OAuth client ID for a web application with the redirect URI below; copy ID and secret."),
    scopes={READ: "Search and read files"},
    auth={"authorization_url": "https://accounts.google.com/o/oauth2/v2/auth", "preset": "google",
          "token_url": "https://oauth2.googleapis.com/token", "revocation_url": "https://oauth2.googleapis.com/revoke"},
)  # fmt: skip
Id = Annotated[str, Field(pattern="^[A-Za-z0-9_-]+$", description="As search and list give it; the top folder is root")]


@drive.tool("Search files or list a folder", READ)
async def drive_search_files(
    api: Rest, text: str = "", folder_id: Id | None = None, limit: Limit = 20, cursor: Cursor = None
) -> dict[str, Any]:
    """Files whose name or content has `text`, or that are in a folder, or both. `next_cursor` gets the next page."""
    quoted = text.replace("\\", "\\\\").replace("'", "\\'")
    wanted = [f"fullText contains '{quoted}'" if text else "", f"'{folder_id}' in parents" if folder_id else ""]
    q = " and ".join(filter(None, [*wanted, "trashed = false"]))
    said = await api.get("files", q=q, pageSize=limit, pageToken=cursor, fields=f"nextPageToken,files({FIELDS})",
                         supportsAllDrives=True, includeItemsFromAllDrives=True)  # fmt: skip
    return {"files": said["files"], "next_cursor": said.get("nextPageToken")}


@drive.tool("Read a file", READ)
async def drive_read_file(api: Rest, file_id: Id, offset: Offset = 0) -> dict[str, Any]:
    """A file's text, in parts: `next_offset` gets the next one, null ends it. Null as text: it is not made of text."""
    file = await api.get(f"files/{file_id}", fields=FIELDS, supportsAllDrives=True)
    if kind := EXPORTS.get(file["mimeType"]):
        return {**file, **await api.part(f"files/{file_id}/export", offset, mimeType=kind)}
    if file["mimeType"].startswith(TEXTS):
        return {**file, **await api.part(f"files/{file_id}", offset, alt="media", supportsAllDrives=True)}
    return {**file, "text": None, "next_offset": None}
