"""The bodies of the API of session tickets, and what the OpenAPI document says about it."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from agents.models import SessionTicket
from agents.services.tickets import MIN_SECONDS, SCOPES
from aster.api_bodies import IdField, StrictSerializer
from aster.openapi import (
    PAGE_PARAMETERS,
    ErrorOut,
    Operation,
    id_parameter,
    operation,
    page_example,
    page_of,
    refusal,
)

TAG = "Session tickets"


class TicketIn(StrictSerializer):
    user = serializers.EmailField(
        max_length=254, required=False, default=None, allow_null=True,
        help_text="Whom the page acts for; the key's owner if left out. Others take an admin's key with aster:tickets.",
    )  # fmt: skip
    agents = serializers.ListField(child=IdField(), help_text="Ids or slugs of the agents the page may use")
    scopes = serializers.ListField(
        child=serializers.ChoiceField(choices=SCOPES), help_text="aster:connect to connect, aster:call to chat"
    )
    origin = serializers.CharField(max_length=200, help_text="The page's origin, as browsers send it")
    seconds = serializers.IntegerField(
        required=False, default=SessionTicket.DEFAULT_SECONDS, min_value=MIN_SECONDS,
        max_value=SessionTicket.MAX_SECONDS, help_text="How long it is good for",
    )  # fmt: skip


class TicketAgentOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    slug = serializers.CharField()
    name = serializers.CharField()


class TicketOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    user = serializers.EmailField(help_text="Whom it acts for")
    made_by = serializers.EmailField()
    agents = TicketAgentOut(many=True)
    scopes = serializers.ListField(child=serializers.CharField())
    origin = serializers.CharField(help_text="The only pages that may use it")
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    revoked_at = serializers.DateTimeField(allow_null=True)
    state = serializers.ChoiceField(choices=["active", "expired", "revoked"])


class MadeTicketOut(TicketOut):
    ticket = serializers.CharField(help_text="The ticket itself, for the page. It is shown this once")


TICKET: dict[str, Any] = {
    **{"id": 31, "user": "ben@acme.example", "made_by": "ada@acme.example", "scopes": ["aster:call", "aster:connect"]},
    "agents": [{"id": 3, "slug": "helper", "name": "Helper"}],
    **{"origin": "https://app.example", "created_at": "2026-11-21T09:00:00Z", "expires_at": "2026-11-21T09:15:00Z"},
    **{"revoked_at": None, "state": "active"},
}
_ASKED = {
    "user": "ben@acme.example", "agents": ["helper"], "scopes": ["aster:connect", "aster:call"],
    "origin": "https://app.example",
}  # fmt: skip
_MISSING = {
    "code": "missing_scope", "fields": {}, "scope": "aster:tickets",
    "detail": "This takes an API key that names the scope aster:tickets; * is not enough.",
}  # fmt: skip
_NO_KEY = {
    "code": "key_needed", "fields": {},
    "detail": "A session ticket is made by your server, with an API key: it ends when that key does.",
}  # fmt: skip
_TICKET = (id_parameter("session ticket"),)

LIST_TICKETS: Operation = operation(
    "list_session_tickets", "List session tickets", tag=TAG, errors=(400, 404), parameters=PAGE_PARAMETERS,
    words="Those one made and those that act for one; for admins all of the organization. The latest first, for a week "
    "after their end, and never the tickets themselves.",
    response=page_of("SessionTicketPage", TicketOut), example=page_example(TICKET),
)  # fmt: skip
MAKE_TICKET: Operation = operation(
    "make_session_ticket", "Make a session ticket", tag=TAG, errors=(400,), status=201,
    words="For a page of your own app: it then shows what an agent's servers need, connects and disconnects, and chats "
    "as this person, from this origin alone, until the ticket ends. It never holds more than the key it is made with, "
    "and ends with that key, with its maker's and its person's membership. For another member it takes an admin's key "
    "with `aster:tickets`.",
    request=TicketIn, bodies={"For a member": _ASKED},
    response=MadeTicketOut, example={**TICKET, "ticket": "ast_3f9a1c2b4d5e_…"},
    refusals={
        403: refusal(
            ErrorOut, "The key's scopes or its owner's role do not allow this, or it is no key.",
            {"Missing scope": _MISSING, "Not with a key": _NO_KEY},
        )
    },
)  # fmt: skip
GET_TICKET: Operation = operation(
    "get_session_ticket", "Get a session ticket", tag=TAG, errors=(404,), parameters=_TICKET,
    response=TicketOut, example=TICKET,
)  # fmt: skip
REVOKE_TICKET: Operation = operation(
    "revoke_session_ticket", "Revoke a session ticket", tag=TAG, errors=(404,), parameters=_TICKET, status=204,
    words="It stops at once, and with it the sign-ins that were begun. Call it when the person signs out of your app.",
)  # fmt: skip
