"""REST APIs that answer as Google Drive, Linear, Jira, HubSpot and Stripe document it."""

from __future__ import annotations

from typing import Any

from tests.fakes.rest_providers import Asked, RestProvider, Said

KEY = "rk_test_of_acme"
CLOUD_ID = "1324a887-45db-1bf4-1e99-ef0ff456d421"
OTHER_CLOUD_ID = "59a6e9fd-0000-4000-8000-000000000000"
LONG_TEXT = "Gänsefüßchen " * 5000


def google_error(status: int, reason: str, message: str) -> Said:
    """https://developers.google.com/workspace/drive/api/guides/handle-errors"""
    errors = [{"domain": "global", "reason": reason, "message": message}]
    return Said({"error": {"errors": errors, "code": status, "message": message}}, status)


def drive_api() -> RestProvider:
    """https://developers.google.com/workspace/drive/api/reference/rest/v3/files"""
    doc = {"id": "1aB_doc", "name": "Plan", "mimeType": "application/vnd.google-apps.document",
           "modifiedTime": "2026-11-01T10:00:00.000Z", "webViewLink": "https://docs.google.com/d/1aB_doc"}  # fmt: skip
    notes = {**doc, "id": "1aB_txt", "name": "notes.txt", "mimeType": "text/plain"}
    photo = {**doc, "id": "1aB_jpg", "name": "photo.jpg", "mimeType": "image/jpeg"}
    files = {each["id"]: each for each in (doc, notes, photo)}

    def says(asked: Asked) -> Said:
        name, _, verb = asked.path.partition("/files")[2].strip("/").partition("/")
        match name, verb, asked.params.get("alt"):
            case "", "", None:
                if "pageToken" in asked.params:
                    return Said({"files": [notes]})
                return Said({"files": [doc], "nextPageToken": "~!!~AI9FV7"})
            case "1aB_doc", "export", None if asked.params["mimeType"] == "text/plain":
                return Said(b"\xef\xbb\xbfThe plan", headers={"content-type": "text/plain"})
            case "1aB_txt", "", "media":
                return Said(LONG_TEXT.encode(), headers={"content-type": "text/plain"})
            case _, "", None if name in files:
                return Said(files[name])
        return google_error(404, "notFound", f"File not found: {name}.")

    return RestProvider(says, google_error(401, "authError", "Invalid Credentials"))


def linear_error(code: str, words: str, status: int = 400, headers: dict[str, str] | None = None) -> Said:
    """https://linear.app/developers/graphql: errors; https://linear.app/developers/rate-limiting"""
    more = {"type": code.lower(), "code": code, "statusCode": status}
    return Said({"errors": [{"message": words, "extensions": more}], "data": None}, status, headers or {})


def linear_api() -> RestProvider:
    """https://linear.app/developers/graphql"""
    team = {"id": "9cfb482a", "key": "ENG", "name": "Engineering"}
    issue = {"identifier": "ENG-123", "title": "Sign-in fails", "url": "https://linear.app/acme/issue/ENG-123",
             "priorityLabel": "High", "updatedAt": "2026-11-01T10:00:00.000Z", "state": {"name": "Todo"},
             "assignee": None, "team": {"key": "ENG"}}  # fmt: skip

    def page(nodes: list[dict[str, Any]], asked: dict[str, Any]) -> Said:
        is_first = asked["after"] is None
        info = {"hasNextPage": is_first, "endCursor": "b2d7c3f0"}
        return Said({"data": {"found": {"nodes": nodes, "pageInfo": info}}})

    def says(asked: Asked) -> Said:
        query, given = asked.body["query"], asked.body["variables"]
        if "teams(first" in query:
            return page([team], given)
        if "searchIssues(term" in query:
            return page([{**issue, "title": given["term"]}], given)
        if "issueCreate(input" in query and given["input"]["teamId"] == team["id"]:
            return Said({"data": {"issueCreate": {"issue": {**issue, "title": given["input"]["title"]}}}})
        return linear_error("INVALID_INPUT", "Entity not found: Team")

    return RestProvider(says, linear_error("AUTHENTICATION_ERROR", "Authentication required, not authenticated", 401))


def jira_api() -> RestProvider:
    """https://developer.atlassian.com/cloud/jira/platform/rest/v2"""
    scopes = ["read:jira-work", "write:jira-work"]
    site = {"id": CLOUD_ID, "name": "Acme", "url": "https://acme.atlassian.net", "scopes": scopes}
    wiki = {"id": CLOUD_ID, "name": "Wiki", "url": "https://wiki.atlassian.net", "scopes": ["read:confluence-space"]}
    fields = {"summary": "Main order flow broken", "status": {"name": "To Do"}, "issuetype": {"name": "Bug"},
              "priority": {"name": "Medium"}, "assignee": {"displayName": "Mia Krystof"},
              "updated": "2026-11-01T10:00:00.000+0000"}  # fmt: skip
    more = {"description": "Some *text*", "reporter": {"displayName": "Emma Richards"}, "created": "2026-10-31"}

    def says(asked: Asked) -> Said:
        if asked.path == "/oauth/token/accessible-resources":
            return Said([site, wiki])
        root = f"/ex/jira/{CLOUD_ID}/rest/api/2"
        match asked.method, asked.path.removeprefix(root):
            case "POST", "/search/jql" if "=" in asked.body["jql"]:
                following = {} if "nextPageToken" in asked.body else {"nextPageToken": "CAEaAggD"}
                return Said({"issues": [{"id": "10002", "key": "ED-1", "fields": fields}], **following})
            case "POST", "/search/jql":
                return Said({"errorMessages": ["Unbounded JQL queries are not allowed here."], "errors": {}}, 400)
            case "GET", "/issue/ED-1":
                return Said({"id": "10002", "key": "ED-1", "fields": {**fields, **more}})
            case "POST", "/issue" if asked.body["fields"]["project"]["key"] == "ED":
                return Said(
                    {"id": "10000", "key": "ED-24", "self": f"https://api.atlassian.com{root}/issue/10000"}, 201
                )
            case "POST", "/issue":
                return Said({"errorMessages": [], "errors": {"project": "valid project is required"}}, 400)
        return Said({"errorMessages": ["Issue does not exist or you do not have permission to see it."]}, 404)

    return RestProvider(says, Said({"code": 401, "message": "Unauthorized"}, 401))


def hubspot_error(status: int, category: str, message: str) -> Said:
    """https://developers.hubspot.com/docs/api-reference/error-handling"""
    told = {"status": "error", "message": message, "correlationId": "aeb5f871-7f07-4993-9211-075dc63e7cbf"}
    return Said({**told, "category": category}, status)


def hubspot_api() -> RestProvider:
    """https://developers.hubspot.com/docs: CRM search, contacts"""
    contact = {"firstname": "Mark", "lastname": "S.", "email": "mark@lumon.industries", "company": "Lumon"}
    deal = {"dealname": "New deal", "amount": "1500.00", "dealstage": "presentationscheduled"}

    def says(asked: Asked) -> Said:
        match asked.path.removeprefix("/crm/v3/objects/"):
            case "contacts/search" | "deals/search" as path:
                shown = contact if path.startswith("contacts") else deal
                following = {"next": {"after": "20", "link": "?after=20"}}
                paging = {} if "after" in asked.body else {"paging": following}
                return Said({"total": 21, "results": [{"id": "512", "properties": shown}], **paging})
            case "contacts" if asked.body["properties"]["email"] == contact["email"]:
                return hubspot_error(409, "CONFLICT", "Contact already exists. Existing ID: 512")
            case "contacts":
                return Said({"id": "513", "properties": asked.body["properties"]}, 201)
        return hubspot_error(404, "OBJECT_NOT_FOUND", "resource not found")

    expired = hubspot_error(401, "EXPIRED_AUTHENTICATION", "The OAuth token used to make this call expired.")
    return RestProvider(says, expired)


def stripe_error(status: int, kind: str, message: str) -> Said:
    """https://docs.stripe.com/api/errors"""
    return Said({"error": {"message": message, "type": kind}}, status)


def stripe_api() -> RestProvider:
    """https://docs.stripe.com/api"""
    customer = {"id": "cus_NffrFeUfNV2Hib", "object": "customer", "name": "Jenny Rosen", "email": "jenny@example.com",
                "created": 1680893993, "currency": None, "balance": 0, "delinquent": False, "metadata": {}}  # fmt: skip
    invoice = {"id": "in_1MtHbELkdIwHu7ix", "number": "A-0001", "customer": customer["id"], "status": "open",
               "currency": "usd", "total": 1500, "amount_remaining": 1500, "created": 1680644467,
               "hosted_invoice_url": "https://invoice.stripe.com/i/secret"}  # fmt: skip
    payment = {"id": "pi_3MtwBwLkdIwHu7ix", "customer": None, "status": "succeeded", "currency": "usd", "amount": 2000,
               "client_secret": "pi_3MtwBwLkdIwHu7ix_secret"}  # fmt: skip
    rows = {"customers": customer, "invoices": invoice, "payment_intents": payment}
    available = [{"amount": 666670, "currency": "usd", "source_types": {"card": 666670}}]

    def says(asked: Asked) -> Said:
        path = asked.path.removeprefix("/v1/")
        if path == "balance":
            return Said({"object": "balance", "available": available, "pending": []})
        if asked.params.get("customer") == "cus_gone":
            return stripe_error(400, "invalid_request_error", "No such customer: 'cus_gone'")
        has_more = "starting_after" not in asked.params
        return Said({"object": "list", "url": f"/v1/{path}", "has_more": has_more, "data": [rows[path]]})

    fake = RestProvider(says, stripe_error(401, "invalid_request_error", "Invalid API Key provided: rk_****wrong"))
    fake.tokens = {KEY}
    return fake
