"""What a page of another app does with a session ticket: see an agent's servers, connect, disconnect.

Connecting walks from the page to a window of Aster's, to the provider, and back to that window. The person's browser is
not signed in to Aster, so two things bind the walk to it: the page that asked hands the window a proof that is in no
address, and the window's browser gets a cookie that the provider's answer must come back with.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from django.utils import timezone

from agents.models import Agent, EmbeddedSignIn, SessionTicket
from agents.services.agents import assigned_servers
from agents.services.tickets import actor_for
from aster import crypto
from aster.accounts.access import CONNECT, Actor
from aster.accounts.models import User, is_row_id
from aster.errors import InvalidInput, NotAllowed, NotFound
from integrations.models import Connection, ConnectionStatus, McpServer
from integrations.oauth.token_requests import Revocation
from integrations.services import connections, disconnection
from integrations.services.servers import require_enabled
from integrations.services.state import connections_by_server

NOTHING_TO_CONNECT = "nothing_to_connect"


@dataclass(frozen=True)
class ServerForPerson:
    """One of an agent's servers, and what its person can do about it."""

    server: McpServer
    status: str
    reason: str = ""
    can_connect: bool = False
    can_disconnect: bool = False


def servers_for(agent: Agent, *, actor: Actor) -> list[ServerForPerson]:
    rows = assigned_servers(agent, with_tools=False)
    mine = connections_by_server(rows, actor)
    return [_seen(server, mine.get(server.pk), actor) for server in rows]


def _seen(server: McpServer, connection: Connection | None, actor: Actor) -> ServerForPerson:
    may = actor.holds(CONNECT)
    if not server.is_enabled:
        can_end = may and connection is not None and server.needs_person
        return ServerForPerson(server, "disabled", "An admin has switched it off.", can_disconnect=can_end)
    if not server.needs_person:
        return ServerForPerson(server, NOTHING_TO_CONNECT)
    if connection is None:
        return ServerForPerson(server, "not_connected", can_connect=may)
    if connection.status == ConnectionStatus.ERROR:
        reason = connection.last_error or "The provider no longer accepts the sign-in."
        return ServerForPerson(server, "needs_reconnect", reason, may, may)
    if connection.wanted_scopes:
        wanted = ", ".join(connection.wanted_scopes)
        return ServerForPerson(server, "needs_reconnect", f"A tool needs more rights: {wanted}.", may, may)
    return ServerForPerson(server, "connected", can_disconnect=may)


def find_agents_server(agent: Agent, key: str) -> McpServer:
    """A server by id or slug, if the agent has it."""
    servers = assigned_servers(agent, with_tools=False)
    found = [each for each in servers if (each.pk == int(key) if is_row_id(key) else each.slug == key)]
    if not found:
        raise NotFound(f"{agent} has no such server.")
    return found[0]


def disconnect(server: McpServer, *, actor: Actor) -> Revocation | None:
    """End the person's own connection; None if there is none."""
    actor.require_scope(CONNECT)
    connection = connections_by_server([server], actor).get(server.pk) if server.needs_person else None
    return disconnection.disconnect(connection, actor=actor) if connection else None


# --- The walk to the provider ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Invitation:
    """What the page gets: the address for a new window, and the proof it hands to that window alone."""

    row: EmbeddedSignIn
    code: str = field(repr=False)
    proof: str = field(repr=False)


def invite(ticket: SessionTicket, server: McpServer, *, actor: Actor) -> Invitation:
    """Press Connect. Asking again for the same server ends what was not begun yet."""
    actor.require_scope(CONNECT)
    require_enabled(server)
    if not server.needs_person:
        raise InvalidInput(f"{server} takes no sign-in of yours: nothing to connect.", code="no_sign_in_needed")
    EmbeddedSignIn.objects.filter(ticket=ticket, server=server, begun_at=None).delete()
    code, proof = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    row = EmbeddedSignIn.objects.create(
        ticket=ticket, server=server, code_digest=crypto.digest(code), proof_digest=crypto.digest(proof),
        expires_at=timezone.now() + EmbeddedSignIn.LIFETIME,
    )  # fmt: skip
    return Invitation(row, code, proof)


def find_invitation(code: str, visitor: User | None) -> EmbeddedSignIn:
    """The sign-in that an address stands for, unless it was begun already or is too old. Looking spends nothing.

    `visitor` is who is signed in to Aster in this browser, if somebody is: nobody connects an account for another.
    """
    rows = EmbeddedSignIn.objects.select_related(
        "ticket__organization", "ticket__user", "ticket__made_by", "ticket__api_key", "server__auth_config"
    )
    row = rows.filter(code_digest=crypto.digest(code), begun_at=None, expires_at__gt=timezone.now()).first()
    if row is None:
        words = "This link was used already or is older than five minutes. Press Connect again on the page you were on."
        raise NotFound(words, code="link_used")
    _actor_of(row)
    if visitor is not None and visitor != row.ticket.user:
        words = f"This is for {row.ticket.user.email}, and you are signed in to Aster as {visitor.email}."
        raise NotAllowed(f"{words} Nothing was connected. If you did not ask for it yourself, do nothing.")
    return row


def begin(row: EmbeddedSignIn, *, proof: str, browser: str) -> connections.Begun:
    """Press Continue: spends the link, and begins a sign-in that only this browser can finish."""
    if not crypto.matches(proof, row.proof_digest):
        words = "Open this window with the Connect button of the page that asked for it. Nothing was connected."
        raise NotAllowed(words, code="proof_missing")
    unspent = EmbeddedSignIn.objects.filter(pk=row.pk, begun_at=None, expires_at__gt=timezone.now())
    if not unspent.update(begun_at=timezone.now()):
        raise NotFound("This link was used already. Press Connect again on the page you were on.", code="link_used")
    actor, auth = _actor_of(row), row.server.auth_config
    require_enabled(row.server)
    if auth is None or not auth.needs_person:
        raise InvalidInput(f"{row.server} takes no sign-in of yours any more.", code="no_sign_in_needed")
    begun = connections.begin_connection(auth, actor=actor, browser=browser)
    EmbeddedSignIn.objects.filter(pk=row.pk).update(state_digest=begun.state_digest)
    return begun


def find_begun(state: str) -> EmbeddedSignIn | None:
    """The sign-in that a provider's answer belongs to, if it was begun on a page of another app."""
    rows = EmbeddedSignIn.objects.select_related(
        "ticket__organization", "ticket__user", "ticket__made_by", "ticket__api_key", "server"
    )
    return rows.filter(state_digest=crypto.digest(state)).first() if state else None


def finish(row: EmbeddedSignIn, params: Mapping[str, str], *, browser: str) -> Connection:
    """The provider's answer, checked as everywhere; only the browser that began it can finish it."""
    return connections.complete_connection(params, actor=_actor_of(row), browser=browser)


def _actor_of(row: EmbeddedSignIn) -> Actor:
    """The person, if the ticket still stands for them and its agent still has the server."""
    actor = actor_for(row.ticket, finishing=True)
    if not row.ticket.agents.filter(is_enabled=True, assignments__server=row.server).exists():
        raise NotAllowed(f"No agent of this page uses {row.server} any more. Nothing was connected.")
    actor.require_scope(CONNECT)
    return actor
