"""The REST API of session tickets: a server makes them with an API key, and ends them."""

from __future__ import annotations

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from agents import api_tickets_docs as docs
from agents.api_tickets_docs import TicketIn
from agents.models import SessionTicket
from agents.services import tickets
from aster.accounts.access import READ
from aster.api import LatestFirst
from aster.api_views import ActorView, no_content


def show_ticket(ticket: SessionTicket) -> dict[str, Any]:
    names = ("id", "scopes", "origin", "created_at", "expires_at", "revoked_at")
    return {
        **{name: getattr(ticket, name) for name in names},
        "user": ticket.user.email,
        "made_by": ticket.made_by.email,
        "agents": [{"id": agent.pk, "slug": agent.slug, "name": agent.name} for agent in ticket.agents.all()],
        "state": ticket.state(),
    }


class TicketList(ActorView):
    # What a key may put into a ticket depends on the ticket; the service asks.
    scopes: ClassVar = {"GET": READ, "POST": READ}

    @extend_schema(**docs.LIST_TICKETS)
    def get(self, request: Request) -> Response:
        return self.page(tickets.visible_tickets(self.actor), show_ticket, LatestFirst)

    @extend_schema(**docs.MAKE_TICKET)
    def post(self, request: Request) -> Response:
        body = self.read(TicketIn, request)
        ticket, text = tickets.make_ticket(self.actor, user_email=body.pop("user"), **body)
        answer = Response({**show_ticket(ticket), "ticket": text}, status=201)
        answer["Cache-Control"] = "no-store"
        return answer


class TicketDetail(ActorView):
    scopes: ClassVar = {"DELETE": READ}

    @extend_schema(**docs.GET_TICKET)
    def get(self, request: Request, pk: int) -> Response:
        return Response(show_ticket(tickets.find_ticket(pk, actor=self.actor)))

    @extend_schema(**docs.REVOKE_TICKET)
    def delete(self, request: Request, pk: int) -> Response:
        tickets.revoke_ticket(tickets.find_ticket(pk, actor=self.actor), actor=self.actor)
        return no_content()
