"""Who calls: an API key, as `X-API-Key` or `Authorization: Bearer`, or an app with an access token for this URL."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rest_framework.exceptions import AuthenticationFailed, NotAuthenticated
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.request import Request

from agents.a2a.card import CARD_PATH
from agents.authorization_server import tokens
from agents.authorization_server.challenges import EXPIRED, challenge
from agents.authorization_server.endpoints import Endpoint
from agents.models import Agent
from agents.services.agents import find_agent
from aster.accounts.access import CALL, READ, Actor
from aster.accounts.authentication import ApiKeyAuthentication, presented_key
from aster.accounts.models import User
from aster.api_views import ActorView
from aster.errors import NotFound

NO_AGENT = "There is no such agent, or your key does not belong to its organization."


class A2aCredentials(ApiKeyAuthentication):
    via = "a2a"

    def authenticate(self, request: Request) -> tuple[User, Actor]:
        token = presented_key(request.headers)
        found = self._holder(token, request) if tokens.is_access_token(token) else super().authenticate(request)
        if found is None:
            raise NotAuthenticated("Send an API key of this organization as X-API-Key or Authorization: Bearer.")
        return found

    def _holder(self, token: str, request: Request) -> tuple[User, Actor]:
        """Who holds this token, if it is for exactly this agent (RFC 8707, audience)."""
        holder = tokens.holders_of([token]).get(token)
        endpoint = Endpoint.at_path(request.path.removesuffix(CARD_PATH).rstrip("/"))
        if holder is None or endpoint is None or holder.resource != endpoint.url:
            raise AuthenticationFailed(EXPIRED)
        tokens.note_use([holder])
        request_id = getattr(request, "request_id", "")
        return holder.actor.person, replace(holder.actor, via=self.via, request_id=request_id)

    def authenticate_header(self, request: Request) -> str:
        """Where an app finds out how to sign in (RFC 9728 §5.1)."""
        path = request.path.removesuffix(CARD_PATH).rstrip("/")
        return challenge(path, had_token=bool(presented_key(request.headers)))


class AnyAccept(DefaultContentNegotiation):
    """Clients of event streams accept nothing else; refusals are JSON all the same."""

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type


class A2aView(ActorView):
    """Everything about an agent, its card as well, is for members of its organization (docs/decisions/0017)."""

    # No cookies: nothing a browser sends by itself may count here.
    authentication_classes = (A2aCredentials,)
    content_negotiation_class = AnyAccept

    def scope_for(self, method: str | None) -> str:
        """Reading a card takes less than talking to the agent."""
        return CALL if method == "POST" or self.actor.holds(CALL) else READ

    def require_organization(self, slug: str) -> None:
        # A key of another organization learns nothing, not even that the agent exists.
        if self.actor.organization.slug != slug:
            raise NotFound(NO_AGENT)

    def agent(self, organization: str, slug: str) -> Agent:
        self.require_organization(organization)
        try:
            return find_agent(slug, actor=self.actor)
        except NotFound:
            raise NotFound(NO_AGENT) from None


def version_of(request: Request) -> str:
    """The protocol version that the client speaks; none said means 0.3 (A2A 1.0 §3.6)."""
    said = request.headers.get("A2A-Version", "").strip() or "0.3"
    return ".".join(said.split(".")[:2])  # a patch version changes nothing
