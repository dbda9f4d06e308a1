"""The part of the REST API that pages of other apps use: a session ticket is the only way in, from its origin alone."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from drf_spectacular.utils import extend_schema
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from agents import api_session_docs as docs
from agents.api_chat import AnyAccept, send_message
from agents.models import Agent, SessionTicket
from agents.serializers import MessageIn
from agents.services import embedding, tickets
from aster.accounts.access import CALL, Actor
from aster.accounts.models import User
from aster.api_views import ActorView
from aster.errors import NotAllowed, NotSignedIn
from integrations.models import McpServer

PREFLIGHT_SECONDS = "600"


class TicketAuthentication(BaseAuthentication):
    """`Authorization: Bearer ast_…`, and nothing else: no key, no cookie."""

    def authenticate(self, request: Request) -> tuple[User, Actor]:
        scheme, _, text = get_authorization_header(request).decode("latin-1").partition(" ")
        if scheme.lower() != "bearer" or not text.strip():
            words = "Send a session ticket as Authorization: Bearer …. Your server makes it: POST session-tickets."
            raise NotSignedIn(words, code="ticket_needed")
        ticket = tickets.find_by_token(text.strip())
        actor = tickets.actor_for(ticket, request_id=getattr(request, "request_id", ""))
        if request.headers.get("Origin", "") != ticket.origin:
            raise NotAllowed(f"This ticket is for pages of {ticket.origin}.", code="other_origin")
        request._request.session_ticket = ticket  # type: ignore[attr-defined]
        return actor.person, actor

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="aster-session"'


class TicketView(ActorView):
    """Answers pages of other origins (Fetch §3.2), without cookies. A preflight carries no ticket and needs none.

    A refusal can be read by the page that asked, whatever its origin: it says what to do, and only to who asked.
    """

    authentication_classes = (TicketAuthentication,)
    permission_classes = (IsAuthenticated,)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if request.method != "OPTIONS":
            super().initial(request, *args, **kwargs)

    def options(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Response:
        answer = Response(status=204)
        answer["Access-Control-Allow-Methods"] = "GET, POST"
        answer["Access-Control-Allow-Headers"] = "Authorization, Content-Type"
        answer["Access-Control-Max-Age"] = PREFLIGHT_SECONDS
        return answer

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        answer: HttpResponseBase = super().finalize_response(request, response, *args, **kwargs)
        if origin := request.headers.get("Origin"):
            answer["Access-Control-Allow-Origin"] = origin
        patch_vary_headers(answer, ["Origin"])
        answer.setdefault("Cache-Control", "no-store")
        if answer.status_code == 401:
            answer["WWW-Authenticate"] = 'Bearer realm="aster-session"'
        return answer

    @property
    def ticket(self) -> SessionTicket:
        ticket: SessionTicket = self.request._request.session_ticket  # type: ignore[attr-defined]
        return ticket

    def agent(self, key: str) -> Agent:
        return tickets.find_ticket_agent(self.ticket, key, actor=self.actor)


class Session(TicketView):
    @extend_schema(**docs.GET_SESSION)
    def get(self, request: Request) -> Response:
        ticket = self.ticket
        chosen = tickets.agents_of(ticket)
        return Response({
            "user": {"name": ticket.user.name, "email": ticket.user.email},
            "organization": ticket.organization.name,
            "agents": [{"id": agent.pk, "slug": agent.slug, "name": agent.name} for agent in chosen],
            "scopes": ticket.scopes,
            "expires_at": ticket.expires_at,
        })  # fmt: skip


def show_server(seen: embedding.ServerForPerson) -> dict[str, Any]:
    names = ("status", "reason", "can_connect", "can_disconnect")
    about = {"id": seen.server.pk, "slug": seen.server.slug, "name": seen.server.name}
    return {**about, **{name: getattr(seen, name) for name in names}}


class SessionServers(TicketView):
    @extend_schema(**docs.SESSION_SERVERS)
    def get(self, request: Request, key: str) -> Response:
        seen = embedding.servers_for(self.agent(key), actor=self.actor)
        return Response({"next": None, "previous": None, "results": [show_server(each) for each in seen]})


class SessionServerView(TicketView):
    def server(self, key: str, server: str) -> McpServer:
        return embedding.find_agents_server(self.agent(key), server)


class SessionConnect(SessionServerView):
    @extend_schema(**docs.SESSION_CONNECT)
    def post(self, request: Request, key: str, server: str) -> Response:
        invited = embedding.invite(self.ticket, self.server(key, server), actor=self.actor)
        url = f"{settings.ASTER_PUBLIC_URL}{reverse('embed-connect')}?{urlencode({'code': invited.code})}"
        return Response({"url": url, "proof": invited.proof, "expires_at": invited.row.expires_at})


class SessionDisconnect(SessionServerView):
    @extend_schema(**docs.SESSION_DISCONNECT)
    def post(self, request: Request, key: str, server: str) -> Response:
        outcome = embedding.disconnect(self.server(key, server), actor=self.actor)
        revocation = {"outcome": outcome.outcome, "detail": outcome.words} if outcome else None
        return Response({"status": "not_connected", "revocation": revocation})


class SessionMessages(TicketView):
    content_negotiation_class = AnyAccept

    @extend_schema(**docs.SESSION_MESSAGES)
    def post(self, request: Request, key: str) -> HttpResponseBase:
        self.actor.require_scope(CALL)
        return send_message(self.agent(key), self.read(MessageIn, request), self)
