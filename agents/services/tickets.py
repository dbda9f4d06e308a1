"""Verbs on session tickets: make one for a page of another app, know it again, end it.

A ticket never gives more than the key it is made with, and it is asked for anew at every use whether its person, its
maker and that key are still welcome.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from urllib.parse import urlsplit

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from agents.models import Agent, SessionTicket
from agents.services import conversations
from aster import crypto
from aster.accounts import audit
from aster.accounts.access import CALL, CONNECT, TICKETS, Actor
from aster.accounts.models import ApiKey, Membership, Role, User, is_row_id
from aster.errors import Conflict, InvalidInput, NotAllowed, NotFound, NotSignedIn

SCOPES = (CONNECT, CALL)
VIA = "embed"
MIN_SECONDS, MAX_AGENTS = 60, 20
# How long an ended ticket stays in the list, and a sign-in begun with it can still say what became of it.
KEPT = timedelta(days=7)
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def make_ticket(
    actor: Actor, *, user_email: str | None, agents: Iterable[str | int], scopes: Iterable[str], origin: str,
    seconds: int = SessionTicket.DEFAULT_SECONDS,
) -> tuple[SessionTicket, str]:  # fmt: skip
    """A ticket for oneself or, with `aster:tickets`, for a member. Returns the row and its text, shown only now."""
    if actor.api_key is None:
        words = "A session ticket is made by your server, with an API key: it ends when that key does."
        raise NotAllowed(words, code="key_needed")
    user = _person_for(actor, user_email)
    chosen = _check_scopes(scopes, actor)
    check_origin(origin)
    if not MIN_SECONDS <= seconds <= SessionTicket.MAX_SECONDS:
        words = f"Choose from {MIN_SECONDS} seconds to {SessionTicket.MAX_SECONDS // 3600} hours."
        raise InvalidInput(words, fields={"seconds": [words]})
    found = _agents_for(Actor(actor.organization, user, Role.MEMBER), agents)
    secret, now = crypto.SecretKey.make(SessionTicket.PREFIX), timezone.now()
    ticket = SessionTicket(
        organization=actor.organization, user=user, made_by=actor.person, api_key=actor.api_key, scopes=chosen,
        origin=origin, lookup=secret.lookup, digest=secret.digest, expires_at=now + timedelta(seconds=seconds),
    )  # fmt: skip
    with transaction.atomic():
        ticket.save()
        ticket.agents.set(found)
        facts = {"for": user.email, "origin": origin, "scopes": chosen, "agents": [str(agent) for agent in found]}
        facts["expires_at"] = ticket.expires_at.isoformat()
        audit.record(actor, "created", ticket, {name: [None, value] for name, value in facts.items()})
    return ticket, secret.text


def _person_for(actor: Actor, email: str | None) -> User:
    if not email or email.strip().lower() == actor.person.email.lower():
        return actor.person
    if not actor.is_admin:
        raise NotAllowed("Only an admin's key can make tickets for other members. Leave user out to make your own.")
    actor.require_named(TICKETS)
    members = Membership.objects.filter(organization=actor.organization, user__is_active=True)
    found = members.select_related("user").filter(user__email__iexact=email.strip()).first()
    if found is None:
        words = "That person is not a member of this organization."
        raise InvalidInput(words, fields={"user": [words]})
    return found.user


def _check_scopes(scopes: Iterable[str], actor: Actor) -> list[str]:
    chosen = sorted(set(scopes))
    if not chosen or not set(chosen) <= set(SCOPES):
        words = f"Choose from {' and '.join(SCOPES)}: a ticket can hold nothing else."
        raise InvalidInput(words, fields={"scopes": [words]})
    for scope in chosen:
        actor.require_scope(scope)
    return chosen


def check_origin(origin: str) -> None:
    """Refuse what a browser would never send as `Origin` (RFC 6454 §6.2), and pages that anybody on the way can change.

    It is compared letter by letter: no path, no default port, lowercase.
    """
    problem = "Give the page's origin as browsers send it: https://app.example, with a port only if it is not 443."
    try:
        parts = urlsplit(origin)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise InvalidInput(problem, fields={"origin": [problem]}) from None
    shown = f"[{host}]" if ":" in host else host
    exact = f"{parts.scheme}://{shown}" + (f":{port}" if port is not None else "")
    usual = {"https": 443, "http": 80}.get(parts.scheme) == port
    plain = host.isascii() and all(each.isalnum() or each in "-.:" for each in host)
    if not host or exact != origin or usual or not plain or parts.scheme not in ("https", "http") or len(origin) > 200:
        raise InvalidInput(problem, fields={"origin": [problem]})
    if parts.scheme == "http" and shown not in _LOOPBACK:
        problem = "A page without https can be changed on its way, and the ticket with it. Use https."
        raise InvalidInput(problem, fields={"origin": [problem]})


def _agents_for(person: Actor, keys: Iterable[str | int]) -> list[Agent]:
    found: dict[int, Agent] = {}
    for key in keys:
        agent = _by_key(Agent.objects.usable_by(person), key)
        if agent is None:
            words = f"There is no agent {str(key)[:50]}, or it is switched off."
            raise InvalidInput(words, fields={"agents": [words]})
        found[agent.pk] = agent
    if not 1 <= len(found) <= MAX_AGENTS:
        words = f"Name 1 to {MAX_AGENTS} agents."
        raise InvalidInput(words, fields={"agents": [words]})
    return list(found.values())


def _by_key(rows: QuerySet[Agent], key: str | int) -> Agent | None:
    return rows.filter(**({"pk": int(key)} if is_row_id(key) else {"slug": key})).first()


def visible_tickets(actor: Actor) -> QuerySet[SessionTicket]:
    return SessionTicket.objects.visible_to(actor).select_related("user", "made_by").prefetch_related("agents")


def find_ticket(pk: int, *, actor: Actor) -> SessionTicket:
    ticket = visible_tickets(actor).filter(pk=pk).first()
    if ticket is None:
        raise NotFound("There is no such session ticket.")
    return ticket


def revoke_ticket(ticket: SessionTicket, *, actor: Actor) -> None:
    """End a ticket at once, with the sign-ins and answers under way on its pages. Twice is the same as once."""
    if actor.user not in (ticket.user, ticket.made_by):
        actor.require_admin()
    elif not any(actor.holds(scope) for scope in (*SCOPES, TICKETS)):
        actor.require_scope(CONNECT)
    with transaction.atomic():
        if SessionTicket.objects.filter(pk=ticket.pk, revoked_at=None).update(revoked_at=timezone.now()):
            conversations.stop_begun_at(ticket.origin, ticket.user, ticket.organization)
            audit.record(actor, "revoked", ticket)


def delete_old() -> None:
    SessionTicket.objects.filter(expires_at__lt=timezone.now() - KEPT).delete()


# --- At use ---------------------------------------------------------------------------------------------------------


def find_by_token(text: str) -> SessionTicket:
    """The ticket with this text, whoever shows it. Raises NotSignedIn with what to do."""
    lookup = crypto.SecretKey.lookup_of(text, SessionTicket.PREFIX)
    rows = SessionTicket.objects.select_related("organization", "user", "made_by", "api_key")
    ticket = rows.filter(lookup=lookup).first() if lookup else None
    if ticket is None or not crypto.matches(text, ticket.digest):
        if crypto.SecretKey.lookup_of(text, ApiKey.PREFIX):
            words = "This is an API key: keep it at your server, and make a session ticket with it for the page."
            raise NotSignedIn(words, code="ticket_needed")
        raise NotSignedIn("This session ticket is unknown. Ask your server for a new one.", code="ticket_unknown")
    return ticket


def actor_for(ticket: SessionTicket, *, request_id: str = "", finishing: bool = False) -> Actor:
    """Who acts with `ticket`: its person, with its scopes and as a member, whatever else they are.

    `finishing` lets a sign-in end that was begun before the ticket expired. Raises NotSignedIn.
    """
    if ticket.revoked_at:
        raise NotSignedIn("This session ticket was revoked. Ask your server for a new one.", code="ticket_revoked")
    if not finishing and ticket.state() == "expired":
        raise NotSignedIn("This session ticket has expired. Ask your server for a new one.", code="ticket_expired")
    members = Membership.objects.filter(organization=ticket.organization, user__is_active=True)
    welcome = ApiKey.objects.usable().filter(pk=ticket.api_key_id).exists()
    welcome = welcome and members.filter(user=ticket.user).exists()
    if ticket.user_id != ticket.made_by_id:
        welcome = welcome and members.filter(user=ticket.made_by, role=Role.ADMIN).exists()
    if not welcome:
        words = "This session ticket has ended: its person, or the key it was made with, is not active here any more."
        raise NotSignedIn(words, code="ticket_ended")
    return Actor(
        ticket.organization, ticket.user, Role.MEMBER, via=VIA, scopes=frozenset(ticket.scopes),
        api_key=ticket.api_key, request_id=request_id, origin=ticket.origin,
    )  # fmt: skip


def agents_of(ticket: SessionTicket) -> QuerySet[Agent]:
    return ticket.agents.filter(organization=ticket.organization_id, is_enabled=True)


def find_ticket_agent(ticket: SessionTicket, key: str, *, actor: Actor) -> Agent:
    """One of the ticket's agents. Another one of the organization is refused by name; a stranger's does not exist."""
    agent = _by_key(Agent.objects.visible_to(actor).select_related("organization", "llm_config"), key)
    if agent is None:
        raise NotFound("There is no such agent.")
    if not ticket.agents.filter(pk=agent.pk).exists():
        words = f"This session ticket is not for the agent {agent}. Make one that names it."
        raise NotAllowed(words, code="other_agent", extra={"agent": agent.slug})
    if not agent.is_enabled:
        raise Conflict(f"{agent} is switched off. An admin can switch it on.", code="agent_disabled")
    return agent
