"""What the OpenAPI document says about the operations that a session ticket opens."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
from rest_framework import serializers

from agents.api_chat_docs import SEND_MESSAGE
from agents.api_tickets_docs import TicketAgentOut
from aster.openapi import ErrorOut, Operation, key_parameter, operation, page_example, page_of, refusal
from integrations.api_examples import DISCONNECTED
from integrations.api_shapes import DisconnectedOut

TAG = "Embedded pages"
SERVER_STATUS = ["connected", "not_connected", "needs_reconnect", "nothing_to_connect", "disabled"]


class TicketScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "agents.api_session.TicketAuthentication"
    name = "sessionTicket"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        words = "A session ticket: `Authorization: Bearer ast_…`, sent by a page of the ticket's origin."
        return {"type": "http", "scheme": "bearer", "description": words}


class SessionUserOut(serializers.Serializer[Any]):
    name = serializers.CharField(allow_blank=True)
    email = serializers.EmailField()


class SessionOut(serializers.Serializer[Any]):
    user = SessionUserOut()
    organization = serializers.CharField()
    agents = TicketAgentOut(many=True, help_text="Without those that are switched off")
    scopes = serializers.ListField(child=serializers.CharField())
    expires_at = serializers.DateTimeField()


class SessionServerOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    slug = serializers.CharField()
    name = serializers.CharField()
    status = serializers.ChoiceField(choices=SERVER_STATUS)
    reason = serializers.CharField(allow_blank=True, help_text="Why it is not connected, in one line")
    can_connect = serializers.BooleanField()
    can_disconnect = serializers.BooleanField()


class InvitationOut(serializers.Serializer[Any]):
    url = serializers.URLField(help_text="To be opened in a window by the page. Good once, for five minutes")
    proof = serializers.CharField(help_text="What the page hands to that window, by message, when it asks")
    expires_at = serializers.DateTimeField()


_EXPIRED = {
    "code": "ticket_expired", "detail": "This session ticket has expired. Ask your server for a new one.", "fields": {},
}  # fmt: skip
_KEY = {
    "code": "ticket_needed", "fields": {},
    "detail": "This is an API key: keep it at your server, and make a session ticket with it for the page.",
}  # fmt: skip
_OTHER_ORIGIN = {
    "code": "other_origin", "detail": "This ticket is for pages of https://app.example.", "fields": {},
}  # fmt: skip
_OTHER_AGENT = {
    "code": "other_agent", "fields": {}, "agent": "helper",
    "detail": "This session ticket is not for the agent Helper. Make one that names it.",
}  # fmt: skip
_LACKS = {
    "code": "missing_scope", "detail": "This session ticket lacks the scope aster:connect.", "fields": {},
    "scope": "aster:connect",
}  # fmt: skip
_OFF = {"code": "agent_disabled", "detail": "Helper is switched off. An admin can switch it on.", "fields": {}}
_REFUSALS: dict[int, OpenApiResponse] = {
    401: refusal(ErrorOut, "No ticket, or one that has ended; `code` says which.", {"Ended": _EXPIRED, "Key": _KEY}),
    403: refusal(
        ErrorOut, "A page of another origin, another agent, or a scope that the ticket lacks.",
        {"Other origin": _OTHER_ORIGIN, "Other agent": _OTHER_AGENT, "Missing scope": _LACKS},
    ),
}  # fmt: skip
_SWITCHED_OFF = {409: refusal(ErrorOut, "The agent or the server is switched off.", {"Switched off": _OFF})}
_AGENT = (key_parameter("agent"),)
_SERVER = (
    *_AGENT, OpenApiParameter("server", str, OpenApiParameter.PATH, description="The id or slug of the server."),
)  # fmt: skip

GET_SESSION: Operation = operation(
    "get_session", "What this ticket is for", tag=TAG, refusals=_REFUSALS, response=SessionOut,
    example={
        "user": {"name": "Ben Okafor", "email": "ben@acme.example"}, "organization": "Acme",
        "agents": [{"id": 3, "slug": "helper", "name": "Helper"}], "scopes": ["aster:call", "aster:connect"],
        "expires_at": "2026-11-21T09:15:00Z",
    },
)  # fmt: skip
SESSION_SERVERS: Operation = operation(
    "list_session_servers", "List an agent's servers and whether the person is connected", tag=TAG, errors=(404,),
    words="`nothing_to_connect`: the server takes no sign-in of each person.", parameters=_AGENT,
    refusals={**_REFUSALS, **_SWITCHED_OFF}, response=page_of("SessionServerPage", SessionServerOut),
    example=page_example({
        "id": 12, "slug": "acme-notes", "name": "Acme Notes", "status": "not_connected", "reason": "",
        "can_connect": True, "can_disconnect": False,
    }),
)  # fmt: skip
SESSION_CONNECT: Operation = operation(
    "connect_session_server", "Begin to connect a server", tag=TAG, errors=(400, 404), parameters=_SERVER,
    words="Open `url` in a new window from a click. That window asks its opener with the message "
    '`{"type": "aster:ready"}`; answer it, at Aster\'s origin alone, with `{"type": "aster:proof", "proof": …}`. When '
    'the person is back from the provider it sends `{"type": "aster:connected", "server": …}` and closes. '
    "`/embed/aster.js` does all of this.",
    refusals={**_REFUSALS, **_SWITCHED_OFF}, response=InvitationOut,
    example={
        "url": "https://aster.example.com/embed/connect/?code=q7…", "proof": "Zm…",
        "expires_at": "2026-11-21T09:05:00Z",
    },
)  # fmt: skip
SESSION_DISCONNECT: Operation = operation(
    "disconnect_session_server", "End the person's connection to a server", tag=TAG, errors=(404,), parameters=_SERVER,
    words="Revokes the tokens at the provider and deletes them here, for every agent and server of this sign-in.",
    refusals={**_REFUSALS, 409: refusal(
        ErrorOut, "The agent is switched off, or the connection is just being renewed.", {"Switched off": _OFF}
    )},
    response=DisconnectedOut, example=DISCONNECTED,
)  # fmt: skip
SESSION_MESSAGES: Operation = {
    **SEND_MESSAGE,
    "operation_id": "send_session_message",
    "summary": "Say something to an agent, on a page",
    "tags": [TAG],
    "description": "As `agents/{key}/messages`, with the ticket's person. Goes on only with conversations that were "
    "begun on pages of the same origin.",
    "responses": {**SEND_MESSAGE["responses"], **_REFUSALS},
}
