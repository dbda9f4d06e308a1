"""The REST API of auth configs, MCP servers and connections. Each view reads a body, calls one service and answers."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from aster.accounts.access import CONNECT, MANAGE, READ
from aster.api import NewestFirst
from aster.api_bodies import check_slug
from aster.api_views import ActorView, no_content
from aster.errors import AsterError, ConnectionRequired, InvalidInput, NotFound, UpstreamError
from integrations import api_docs as docs
from integrations.bodies import fill_server, show_servers
from integrations.models import AuthConfig, Connection, McpServer, TestStatus
from integrations.serializers import (
    AuthConfigIn,
    BeginIn,
    ConnectIn,
    DiscoverIn,
    FixIn,
    ServerIn,
    ServerTestIn,
    fill_auth_config,
    show_attempt,
    show_auth_config,
    show_connection,
    show_tool,
)
from integrations.services import connections, disconnection, doctor, servers, validation
from integrations.services.access import at_server
from integrations.services.catalogue import tools_of
from integrations.services.discovery import discover_server
from integrations.services.ledger import attempts_of
from integrations.services.links import connect_url
from integrations.services.state import connections_by_server


class AuthConfigList(ActorView):
    @extend_schema(**docs.LIST_AUTH_CONFIGS)
    def get(self, request: Request) -> Response:
        return self.page(AuthConfig.objects.visible_to(self.actor), show_auth_config)

    @extend_schema(**docs.CREATE_AUTH_CONFIG)
    def post(self, request: Request) -> Response:
        values = self.read_change(AuthConfigIn, request)
        if not values.get("name"):
            raise InvalidInput("Give the auth config a name.", fields={"name": ["This field is required."]})
        auth = fill_auth_config(AuthConfig(organization=self.actor.organization), values)
        servers.save_auth_config(auth, actor=self.actor)
        return Response(show_auth_config(auth), status=201)


class AuthConfigDetail(ActorView):
    @extend_schema(**docs.GET_AUTH_CONFIG)
    def get(self, request: Request, key: str) -> Response:
        return Response(show_auth_config(servers.find_auth_config(key, actor=self.actor)))

    @extend_schema(**docs.UPDATE_AUTH_CONFIG)
    def patch(self, request: Request, key: str) -> Response:
        auth = servers.find_auth_config(key, actor=self.actor)
        fill_auth_config(auth, self.read_change(AuthConfigIn, request, partial=True))
        servers.save_auth_config(auth, actor=self.actor)
        return Response(show_auth_config(auth))

    @extend_schema(**docs.DELETE_AUTH_CONFIG)
    def delete(self, request: Request, key: str) -> Response:
        servers.delete_auth_config(servers.find_auth_config(key, actor=self.actor), actor=self.actor)
        return no_content()


class Authorize(ActorView):
    scopes: ClassVar = {"POST": CONNECT}

    @extend_schema(**docs.AUTHORIZE)
    def post(self, request: Request, key: str) -> Response:
        auth = servers.find_auth_config(key, actor=self.actor)
        redirect_uri = request.query_params.get("redirect_uri") or self.read(BeginIn, request)["redirect_uri"]
        return Response(begin(auth, self, redirect_uri=redirect_uri))


class OAuthCallback(ActorView):
    scopes: ClassVar = {"GET": CONNECT}

    @extend_schema(**docs.CALLBACK)
    def get(self, request: Request) -> Response:
        connection = connections.complete_connection(request.query_params.dict(), actor=self.actor)
        return Response({"status": connection.status, "connection": show_connection(connection)})


def begin(auth: AuthConfig, view: ActorView, **options: str) -> dict[str, Any]:
    """The answer that starts a connection: where to send the person, or the connection if nobody needs to consent."""
    begun = connections.begin_connection(auth, actor=view.actor, **options)
    if begun.connection is None:
        return {
            "status": "authorization_required",
            "authorization_url": begun.authorization_url,
            "connection": None,
        }
    shown = show_connection(begun.connection)
    return {"status": begun.connection.status, "authorization_url": None, "connection": shown}


def with_links(missing: ConnectionRequired, server: McpServer, view: ActorView) -> ConnectionRequired:
    """The same refusal with the hub's connect page and, if the caller may connect, the provider's consent page."""
    link = connect_url(server, view.actor)
    at_server(missing, server).extra |= {"connect_url": link, "authorization_url": None}
    if server.auth_config and server.needs_person:
        # The refusal stands, whatever the provider or the key's scopes say to connecting now.
        with suppress(AsterError):
            missing.extra |= {"authorization_url": begin(server.auth_config, view)["authorization_url"]}
    return missing


# --- MCP servers ------------------------------------------------------------------------------------------------------


class ServerView(ActorView):
    """What the server views share: finding, filling and showing one."""

    def server(self, key: str) -> McpServer:
        return servers.find_server(key, actor=self.actor)

    def show(self, server: McpServer) -> dict[str, Any]:
        return self.show_all([server])[0]

    def show_all(self, rows: list[McpServer]) -> list[dict[str, Any]]:
        return show_servers(rows, self.actor)

    def fill(self, server: McpServer, values: dict[str, Any]) -> AuthConfig | None:
        return fill_server(server, values, self.actor)

    def answer(self, saved: servers.Saved, status: int) -> Response:
        found = {
            "connection_test_result": show_test(saved.test) if saved.test else None,
            "discovery_result": saved.discovery.as_json() if saved.discovery else None,
        }
        return Response({**self.show(saved.server), **found}, status=status)


class ServerList(ServerView):
    @extend_schema(**docs.LIST_SERVERS)
    def get(self, request: Request) -> Response:
        return self.page_of(McpServer.objects.visible_to(self.actor).select_related("auth_config"), self.show_all)

    @extend_schema(**docs.CREATE_SERVER)
    def post(self, request: Request) -> Response:
        values = self.read_change(ServerIn, request)
        test = values.get("test_connection", True)
        server = McpServer(organization=self.actor.organization)
        auth = self.fill(server, values)
        return self.answer(servers.save_server(server, actor=self.actor, auth=auth, test=test), 201)


class ServerDetail(ServerView):
    @extend_schema(**docs.GET_SERVER)
    def get(self, request: Request, key: str) -> Response:
        return Response(self.show(self.server(key)))

    @extend_schema(**docs.UPDATE_SERVER)
    def patch(self, request: Request, key: str) -> Response:
        server = self.server(key)
        auth = self.fill(server, self.read_change(ServerIn, request, partial=True))
        return self.answer(servers.save_server(server, actor=self.actor, auth=auth), 200)

    @extend_schema(**docs.PUT_SERVER)
    def put(self, request: Request, key: str) -> Response:
        """Create the server with this slug, or make it as the body says: the same request twice changes nothing."""
        values = self.read_change(ServerIn, request)
        test = values.get("test_connection", True)
        try:
            server, created = self.server(key), False
        except NotFound:
            check_slug(key)
            server, created = McpServer(organization=self.actor.organization, slug=key), True
        auth = self.fill(server, values)
        return self.answer(servers.save_server(server, actor=self.actor, auth=auth, test=test), 201 if created else 200)

    @extend_schema(**docs.DELETE_SERVER)
    def delete(self, request: Request, key: str) -> Response:
        servers.delete_server(self.server(key), actor=self.actor)
        return no_content()


class ServerDiscover(ServerView):
    scopes: ClassVar = {"POST": MANAGE}

    @extend_schema(**docs.DISCOVER)
    def post(self, request: Request) -> Response:
        url = self.read_change(DiscoverIn, request)["url"]
        return Response(discover_server(url, actor=self.actor).as_json())


class ServerTestUnsaved(ServerView):
    @extend_schema(**docs.TEST_UNSAVED)
    def post(self, request: Request) -> Response:
        values = self.read_change(ServerTestIn, request)
        server = McpServer(organization=self.actor.organization)
        server.auth_config = self.fill(server, values) or server.auth_config
        validation.check_unsaved(server, actor=self.actor)
        return Response(show_test(servers.try_server(server, actor=self.actor)))


class ServerTest(ServerView):
    scopes: ClassVar = {"POST": CONNECT}

    @extend_schema(**docs.TEST_SERVER)
    def post(self, request: Request, key: str) -> Response:
        return Response(show_test(servers.test_server(self.server(key), actor=self.actor)))


class ServerDiagnose(ServerView):
    scopes: ClassVar = {"POST": CONNECT}

    @extend_schema(**docs.DIAGNOSE)
    def post(self, request: Request, key: str) -> Response:
        return Response(doctor.diagnose(self.server(key), actor=self.actor).as_json())


class ServerDiagnosis(ServerView):
    @extend_schema(**docs.DIAGNOSIS)
    def get(self, request: Request, key: str) -> Response:
        last = doctor.last_diagnosis(self.server(key), actor=self.actor)
        if last is None:
            raise NotFound("The doctor has not looked at this server yet.")
        return Response(last.as_json())


class ServerFix(ServerView):
    @extend_schema(**docs.FIX)
    def post(self, request: Request, key: str) -> Response:
        server, fix = self.server(key), self.read_change(FixIn, request)["fix"]
        return Response(doctor.apply_fix(server, fix, actor=self.actor).as_json())


def show_test(result: servers.TestResult) -> dict[str, Any]:
    tools = result.check.tools if result.check else []
    return {**result.as_json(), "tools": tools}


class ServerConnect(ServerView):
    scopes: ClassVar = {"POST": CONNECT}

    @extend_schema(**docs.CONNECT)
    def post(self, request: Request, key: str) -> Response:
        server, body = self.server(key), self.read(ConnectIn, request)
        servers.require_enabled(server)
        if server.auth_config is None or not server.auth_config.is_oauth:
            # Shared credentials: there is nothing a person could do.
            return Response({"status": "connected", "authorization_url": None, "connection": None})
        return Response(begin(server.auth_config, self, **body))


class ServerConnection(ServerView):
    @extend_schema(**docs.CONNECTION)
    def get(self, request: Request, key: str) -> Response:
        server = self.server(key)
        connection = connections_by_server([server], self.actor).get(server.pk)
        shared = server.auth_config is None or not server.auth_config.is_oauth
        status = connection.status if connection else "connected" if shared else "not_connected"
        return Response({
            "status": status,
            "error": (connection.last_error or None) if connection else None,
            "expires_at": connection.expires_at if connection else None,
            "connection": show_connection(connection) if connection else None,
        })  # fmt: skip


class ServerDisconnect(ServerView):
    scopes: ClassVar = {"POST": CONNECT}

    @extend_schema(**docs.DISCONNECT)
    def post(self, request: Request, key: str) -> Response:
        server = self.server(key)
        connection = connections_by_server([server], self.actor).get(server.pk)
        return Response(_disconnect(connection, self) if connection else {**NOT_CONNECTED, "revocation": None})


NOT_CONNECTED = {"status": "not_connected"}


def _disconnect(connection: Connection, view: ActorView) -> dict[str, Any]:
    outcome = disconnection.disconnect(connection, actor=view.actor)
    return {**NOT_CONNECTED, "revocation": {"outcome": outcome.outcome, "detail": outcome.words}}


class ServerTools(ServerView):
    @extend_schema(**docs.TOOLS)
    def get(self, request: Request, key: str) -> Response:
        server = self.server(key)
        if server.tools_synced_at is None and server.is_enabled:
            list_tools(server, self)
        return self.page(tools_of(server), show_tool)


def list_tools(server: McpServer, view: ActorView) -> servers.TestResult:
    """List the tools now and keep them, or say why that cannot be: an empty list would say there are none."""
    result = servers.test_server(server, actor=view.actor)
    if result.status == TestStatus.SIGN_IN:
        raise with_links(ConnectionRequired(result.message), server, view)
    if not result.ok:
        raise UpstreamError(result.message, step=result.step, hint=result.hint, code=result.code or None)
    return result


class ServerToolsRefresh(ServerView):
    scopes: ClassVar = {"POST": READ}

    @extend_schema(**docs.TOOLS_REFRESH)
    def post(self, request: Request, key: str) -> Response:
        server = self.server(key)
        servers.require_enabled(server)
        result = list_tools(server, self)
        return Response({**result.as_json(), "results": [show_tool(tool) for tool in tools_of(server)]})


# --- Connections ------------------------------------------------------------------------------------------------------


class ConnectionList(ActorView):
    @extend_schema(**docs.LIST_CONNECTIONS)
    def get(self, request: Request) -> Response:
        rows = Connection.objects.visible_to(self.actor).select_related("auth_config", "user")
        if request.query_params.get("mine") in ("1", "true"):
            rows = rows.filter(user=self.actor.user)
        return self.page(rows, show_connection)


class ConnectionDetail(ActorView):
    scopes: ClassVar = {"DELETE": CONNECT}

    @extend_schema(**docs.GET_CONNECTION)
    def get(self, request: Request, pk: int) -> Response:
        return Response(show_connection(connections.find_connection(pk, actor=self.actor)))

    @extend_schema(**docs.DELETE_CONNECTION)
    def delete(self, request: Request, pk: int) -> Response:
        return Response(_disconnect(connections.find_connection(pk, actor=self.actor), self))


class ConnectionLedger(ActorView):
    @extend_schema(**docs.CONNECTION_LEDGER)
    def get(self, request: Request, pk: int) -> Response:
        connection = connections.find_connection(pk, actor=self.actor)
        return self.page(attempts_of(connection), show_attempt, NewestFirst)
