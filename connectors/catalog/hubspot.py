"""HubSpot's CRM API, version 3 (https://developers.hubspot.com/docs: CRM search, contacts, OAuth 2026-03)."""

from typing import Any

from connectors.base import Category, Connector, Cursor, Kind, Limit
from connectors.rest import Answer, Problem, Rest, brief, problem_of

CONTACT = ("firstname", "lastname", "email", "phone", "company", "lifecyclestage")
DEAL = ("dealname", "amount", "dealstage", "pipeline", "closedate")


def problem(answer: Answer) -> Problem | None:
    """A refusal has a category, which tells a missing scope."""
    found = problem_of(answer)
    lacks = answer.status == 403 and answer.body.get("category") == "MISSING_SCOPES"
    return Problem(403, found.words, lacks_scope=True) if found and lacks else found


hubspot = Connector(
    slug="hubspot", name="HubSpot", category=Category.SALES, kind=Kind.OAUTH, problem=problem,
    description="Contacts and deals, as the person who signed in.",
    url="https://api.hubapi.com", docs="https://developers.hubspot.com/docs/apps/developer-platform/build-apps/overview",
    steps=("Make an app with OAuth in a HubSpot developer account.",
           "Add the redirect URI and the scopes below to it.", "Copy the Client ID and the Client secret."),
    scopes={"crm.objects.contacts.read": "Search contacts", "crm.objects.contacts.write": "Create contacts",
            "crm.objects.deals.read": "Search deals"},
    auth={"authorization_url": "https://app.hubspot.com/oauth/authorize",
          "token_url": "https://api.hubapi.com/oauth/2026-03/token",
          "revocation_url": "https://api.hubapi.com/oauth/2026-03/token/revoke", "preset": "hubspot"},
)  # fmt: skip


@hubspot.tool("Search contacts", "crm.objects.contacts.read")
async def hubspot_search_contacts(api: Rest, text: str, limit: Limit = 20, cursor: Cursor = None) -> dict[str, Any]:
    """Contacts with this text in their name, email, phone or company. `next_cursor` gets the next page."""
    return await search(api, "contacts", CONTACT, text, limit, cursor)


@hubspot.tool("Search deals", "crm.objects.deals.read")
async def hubspot_search_deals(api: Rest, text: str, limit: Limit = 20, cursor: Cursor = None) -> dict[str, Any]:
    """Deals with this text in their name or description. `next_cursor` gets the next page; null ends the list."""
    return await search(api, "deals", DEAL, text, limit, cursor)


@hubspot.tool("Create a contact", "crm.objects.contacts.write", only_reads=False)
async def hubspot_create_contact(
    api: Rest, email: str, firstname: str | None = None, lastname: str | None = None, phone: str | None = None
) -> dict[str, Any]:
    """A new contact. One with the same email is refused, and the refusal tells its id."""
    given = {"email": email, "firstname": firstname, "lastname": lastname, "phone": phone}
    made = await api.post("crm/v3/objects/contacts", properties={k: v for k, v in given.items() if v})
    return {"id": made["id"], **brief(made["properties"], *given)}


async def search(
    api: Rest, kind: str, names: tuple[str, ...], text: str, limit: int, cursor: str | None
) -> dict[str, Any]:
    said = await api.post(f"crm/v3/objects/{kind}/search", query=text, limit=limit, after=cursor, properties=names)
    found = [{"id": each["id"], **brief(each["properties"], *names)} for each in said["results"]]
    return {"found": found, "next_cursor": said.get("paging", {}).get("next", {}).get("after")}
