"""How API requests say who they are: an API key, or the hub's session cookie with a CSRF token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from aster.accounts.access import Actor
from aster.accounts.models import User
from aster.accounts.services import authenticate_key

if TYPE_CHECKING:  # DRF loads this module while it is being imported itself
    from rest_framework.views import APIView


UNKNOWN_KEY = "This API key is unknown, expired or revoked."


def presented_key(headers: Mapping[str, str]) -> str:
    """The API key in `Authorization: Bearer …` or `X-API-Key` (names in lower or any case), or an empty text."""
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    return headers.get("x-api-key", "").strip()


class ApiKeyAuthentication(BaseAuthentication):
    via = "api"

    def authenticate(self, request: Request) -> tuple[User, Actor] | None:
        key = presented_key(request.headers)
        if not key:
            return None
        actor = authenticate_key(key, via=self.via, request_id=getattr(request, "request_id", ""))
        if actor is None:
            raise AuthenticationFailed(UNKNOWN_KEY)
        return actor.person, actor

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="aster"'


class IsMember(BasePermission):
    """The caller belongs to an organization, and its key's scopes allow the view's method."""

    message = "You are not a member of any organization."

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not request.user or not request.user.is_authenticated:
            return False
        actor = actor_of(request)
        if actor is None:
            return False
        scope = cast(Any, view).scope_for(request.method) if hasattr(view, "scope_for") else None
        if scope:
            actor.require_scope(scope)
        return True


def actor_of(request: Request) -> Actor | None:
    if isinstance(request.auth, Actor):
        return request.auth
    actor = cast(Any, request._request).actor
    # The middleware's actor is a lazy stand-in, which dataclasses.replace does not take.
    return (
        Actor(actor.organization, actor.user, actor.role, via=actor.via, request_id=actor.request_id) if actor else None
    )
