"""Connections: one's own, and for admins the people × servers matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlencode

from django.core.paginator import Page, Paginator
from django.db.models import Prefetch, QuerySet
from django.http import HttpResponse
from django.shortcuts import render

from aster.accounts.access import Actor, ActorRequest
from aster.accounts.models import Membership, User
from aster.pages import hub_page
from integrations.models import PERSONAL, AuthConfig, Connection, ConnectionStatus, McpServer
from integrations.views.browser import browser_of

PEOPLE_PER_PAGE = 50


@dataclass(frozen=True)
class ConnectionRow:
    """One connection with the servers it opens and the agents that can use it."""

    connection: Connection
    servers: list[McpServer]
    agents: list[str]

    @property
    def name(self) -> str:
        return ", ".join(server.name for server in self.servers[:4]) or self.connection.auth_config.name

    @property
    def broken(self) -> bool:
        return self.connection.status == ConnectionStatus.ERROR

    @property
    def server(self) -> McpServer | None:
        """The server whose page offers to connect again."""
        return next((server for server in self.servers if server.is_enabled), None)


@hub_page
def my_connections(request: ActorRequest) -> HttpResponse:
    browser_of(request)
    rows = connection_rows(Connection.objects.visible_to(request.actor).filter(user=request.actor.person))
    mine = {row.connection.auth_config_id: row.connection for row in rows}
    open_to_all = McpServer.objects.usable_by(request.actor).select_related("auth_config")
    wanting = open_to_all.filter(auth_config__auth_type__in=PERSONAL)
    context = {
        "title": "My connections",
        "rows": sorted(rows, key=lambda row: (not row.broken, row.name.lower())),
        "missing": [server for server in wanting if not _opens(mine.get(server.auth_config_id or 0), server)],
    }
    return render(request, "integrations/connections.html", context)


def _opens(connection: Connection | None, server: McpServer) -> bool:
    """A second server with the same sign-in is open only to those who consented when it was there."""
    return connection is not None and connection.reaches(server)


def connection_rows(connections: QuerySet[Connection]) -> list[ConnectionRow]:
    """Each connection with its servers and their agents, in three queries."""
    servers = Prefetch("auth_config__servers", queryset=McpServer.objects.prefetch_related("agents"))
    rows = []
    for connection in connections.select_related("auth_config", "user").prefetch_related(servers):
        used = list(connection.auth_config.servers.all())
        agents = sorted({str(agent) for server in used for agent in server.agents.all()}, key=str.lower)
        rows.append(ConnectionRow(connection, used, agents))
    return rows


# --- The matrix ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """One sign-in: an auth config and the servers behind it."""

    auth: AuthConfig
    label: str


@dataclass(frozen=True)
class Person:
    user: User
    role: str
    cells: list[tuple[Column, Connection | None]]


@hub_page
def matrix(request: ActorRequest) -> HttpResponse:
    """Who is connected where. Tokens are nobody's to see; state, expiry and last use are the admins'."""
    actor = request.actor
    actor.require_admin()
    columns = _columns(actor)
    words = request.GET.get("q", "").strip()
    people = actor.organization.memberships.select_related("user").order_by("user__name", "user__email")
    if words:
        people = people.filter(user__email__icontains=words) | people.filter(user__name__icontains=words)
    page: Page[Membership] = Paginator(people, PEOPLE_PER_PAGE).get_page(request.GET.get("page"))
    context = {
        "title": "Sign-ins",
        "columns": columns,
        "people": _people(actor, columns, page),
        "page": page,
        "q": words,
        "q_query": urlencode({"q": words}) if words else "",
        "organization_rows": connection_rows(Connection.objects.visible_to(actor).filter(user=None)),
        "broken_words": _count_broken(actor),
    }
    return render(request, "integrations/matrix.html", context)


def _count_broken(actor: Actor) -> str:
    broken = Connection.objects.visible_to(actor).filter(status=ConnectionStatus.ERROR).count()
    return f"{broken} connection error{'' if broken == 1 else 's'}" if broken else ""


def _columns(actor: Actor) -> list[Column]:
    enabled = Prefetch("servers", queryset=McpServer.objects.filter(is_enabled=True), to_attr="enabled_servers")
    configs = AuthConfig.objects.visible_to(actor).filter(auth_type__in=PERSONAL)
    columns = []
    for auth in configs.prefetch_related(enabled):
        names = [server.name for server in cast(Any, auth).enabled_servers]
        if names:
            columns.append(Column(auth, ", ".join(names)))
    return columns


def _people(actor: Actor, columns: list[Column], page: Page[Membership]) -> list[Person]:
    shown = [membership.user_id for membership in page]
    rows = Connection.objects.visible_to(actor).filter(user_id__in=shown).select_related("auth_config")
    by_place = {(row.user_id, row.auth_config_id): row for row in rows}
    return [
        Person(
            membership.user,
            membership.get_role_display(),
            [(column, by_place.get((membership.user_id, column.auth.pk))) for column in columns],
        )
        for membership in page
    ]
