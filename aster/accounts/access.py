"""Role facts: who is acting, in which organization, with what rights. Every service asks here and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.functional import SimpleLazyObject

from aster.accounts.models import ApiKey, Membership, Organization, Role, User
from aster.errors import NotAllowed

SESSION_ORGANIZATION = "organization_id"

# What an API key may be limited to. Other scopes (files:read, …) are the organization's own, for tools.
READ, MANAGE, CONNECT, CALL = "aster:read", "aster:manage", "aster:connect", "aster:call"
TICKETS = "aster:tickets"
KEY_SCOPES = {
    "*": "Everything its owner may do",
    READ: "Read servers, agents, connections and tools",
    MANAGE: "Change servers, auth configs, agents and people; with aster:call, call servers directly",
    CONNECT: "Connect and disconnect the owner's accounts",
    CALL: "Call the tools of agents with the owner's connections",
    TICKETS: "Make session tickets for other members; * does not include it",
}
# `aster:*` is these and no more: not a tool's scope that happens to begin so.
_OWN_HIERARCHY: Mapping[str, list[str]] = {
    **{MANAGE: [READ], CONNECT: [READ], CALL: [READ], TICKETS: [READ]},
    "aster:*": [MANAGE, CONNECT, CALL],
}


class App(Protocol):
    """A program that a person has let in to act for them; it is its name in texts (agents.models.ConnectedApp)."""

    def is_connected(self) -> bool:
        """Whether they still let it, asked of the database."""


@dataclass(frozen=True)
class Actor:
    """The one who acts: a person (through a page, a key, an app, a command) or Aster itself (`user` is None).

    `origin` is the page of another app that they act on with a session ticket; empty everywhere else.
    """

    organization: Organization
    user: User | None
    role: str
    via: str = "page"
    scopes: frozenset[str] = frozenset({"*"})
    api_key: ApiKey | None = None
    request_id: str = ""
    origin: str = ""
    app: App | None = None

    @classmethod
    def system(cls, organization: Organization, via: str = "task") -> Actor:
        return cls(organization, None, Role.ADMIN, via=via)

    def in_request(self, request_id: str) -> Actor:
        """The same one, in this request. (What replace() does, at a tenth of its cost: every call needs it.)"""
        actor = object.__new__(Actor)
        actor.__dict__.update(self.__dict__, request_id=request_id)
        return actor

    @property
    def is_admin(self) -> bool:
        return self.role == Role.ADMIN

    @property
    def person(self) -> User:
        """The acting person; connections belong to people, so this refuses Aster itself."""
        if self.user is None:
            raise NotAllowed("Only a person can do this.")
        return self.user

    def require_admin(self) -> None:
        if not self.is_admin:
            raise NotAllowed("Only an admin of the organization can do this. Ask one of them.")
        self.require_scope(MANAGE)

    def require_scope(self, scope: str) -> None:
        if not self.holds(scope):
            words = f"This {self.means} lacks the scope {scope}."
            raise NotAllowed(words, code="missing_scope", extra={"scope": scope})

    @property
    def means(self) -> str:
        """What limits their scopes, in words."""
        return "session ticket" if self.origin else "app" if self.app else "API key"

    def require_named(self, scope: str) -> None:
        """For what goes beyond the owner's own rights: a key has to be made for it, and `*` is not enough."""
        if (self.api_key or self.app) and scope not in self.scopes:
            words = f"This takes an API key that names the scope {scope}; * is not enough."
            raise NotAllowed(words, code="missing_scope", extra={"scope": scope})

    def holds(self, scope: str) -> bool:
        # A key that carries a tool scope (files:read) is meant for calling; without this it could do nothing at all.
        if scope == CALL and any(not held.startswith("aster:") for held in self.scopes):
            return True
        return covers(self.scopes, scope, self.organization.scope_hierarchy)


def covers(held: Iterable[str], needed: str, hierarchy: Mapping[str, Iterable[str]]) -> bool:
    """Whether `held` scopes include `needed`, following the hierarchy (`files:write → files:read`, `admin → *`).

    `files:*` includes everything that begins with `files:`, and what that includes.
    """
    queue, seen = list(held), set[str]()
    while queue:
        scope = queue.pop()
        if scope in ("*", needed):
            return True
        if scope in seen:
            continue
        seen.add(scope)
        queue += [*hierarchy.get(scope, ()), *_OWN_HIERARCHY.get(scope, ())]
        if scope.endswith(":*") and scope not in _OWN_HIERARCHY:
            begins = scope.removesuffix("*")
            if needed.startswith(begins):
                return True
            queue += [each for each in hierarchy if each.startswith(begins)]
    return False


def organizations_of(user: User) -> QuerySet[Organization]:
    return Organization.objects.all() if user.is_superuser else Organization.objects.filter(memberships__user=user)


def admins_of(organization: Organization) -> QuerySet[User]:
    """Whom to ask for what only an admin can do."""
    found = User.objects.filter(memberships__organization=organization, memberships__role=Role.ADMIN)
    return found.order_by("name", "email")


def find_actor(user: User, organization_id: int | None, **how: Any) -> Actor | None:
    """The actor `user` is in the given organization, or in their first one. None if they belong to none."""
    memberships = Membership.objects.filter(user=user).select_related("organization").order_by("organization__name")
    chosen = memberships.filter(organization_id=organization_id).first() if organization_id else None
    if chosen is None and user.is_superuser:
        organization = organizations_of(user).filter(pk=organization_id).first() if organization_id else None
        organization = organization or organizations_of(user).first()
        return Actor(organization, user, Role.ADMIN, **how) if organization else None
    chosen = chosen or memberships.first()
    return Actor(chosen.organization, user, chosen.role, **how) if chosen else None


def require_still_here(actor: Actor) -> None:
    """Refuse who was locked out since they were let in: for work that goes on for minutes. Asks the database."""
    if actor.app is not None:
        here = actor.app.is_connected()
    elif actor.api_key is not None:
        here = ApiKey.objects.usable().filter(pk=actor.api_key.pk).exists()
    elif actor.user is not None:
        member = Exists(Membership.objects.filter(user=OuterRef("pk"), organization=actor.organization))
        here = User.objects.filter(Q(is_superuser=True) | member, pk=actor.user.pk, is_active=True).exists()
    else:
        here = True
    if not here:
        means = actor.means if actor.app else "key"
        raise NotAllowed(f"{actor.user} may not act in {actor.organization} any more, or their {means} was revoked.")


class ActorRequest(HttpRequest):
    """A request past the door: signed in and acting in an organization."""

    user: User
    actor: Actor


class MembershipMiddleware:
    """Puts `request.actor` (an Actor, or None) on every request; looked up once, when first asked for."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        cast(Any, request).actor = SimpleLazyObject(lambda: _actor_of(request))
        return self.get_response(request)


def _actor_of(request: HttpRequest) -> Actor | None:
    if not request.user.is_authenticated:
        return None
    user = request.user
    chosen = request.session.get(SESSION_ORGANIZATION)
    return find_actor(user, chosen, via="page", request_id=getattr(request, "request_id", ""))
