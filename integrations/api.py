"""The REST API of auth configs, MCP servers and connections. Each view reads a body, calls one service and answers."""

from __future__ import annotations

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from aster.accounts.access import CONNECT, MANAGE, READ
from aster.api_views import ActorView, no_content
from aster.errors import Conflict, ConnectionRequired, InvalidInput, NotFound
from integrations import api_docs as docs
from integrations.models import AuthConfig, Connection, McpServer, Tool, slug_validator
from integrations.serializers import (
    AuthConfigIn,
    DiscoverIn,
    ServerIn,
    fill_auth_config,
    keep_redacted,
    show_auth_config,
    show_connection,
    show_server,
    show_tool,
)
from integrations.services import connections, servers
from integrations.services.access import usable_connection
from integrations.services.catalogue import tools_of
from integrations.services.discovery import discover_server
from integrations.services.state import connections_by_server, server_state, tool_counts


class AuthConfigList(ActorView):
    @extend_schema(**docs.LIST_AUTH_CONFIGS)
    def get(self, request: Request) -> Response:
        return self.page(AuthConfig.objects.visible_to(self.actor), show_auth_config)

    @extend_schema(**docs.CREATE_AUTH_CONFIG)
    def post(self, request: Request) -> Response:
        values = self.read(AuthConfigIn, request)
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
        fill_auth_config(auth, self.read(AuthConfigIn, request, partial=True))
        servers.save_auth_config(auth, actor=self.actor)
        return Response(show_auth_config(auth))

    @extend_schema(**docs.DELETE)
    def delete(self, request: Request, key: str) -> Response:
        servers.delete_auth_config(servers.find_auth_config(key, actor=self.actor), actor=self.actor)
        return no_content()


class Authorize(ActorView):
    scopes: ClassVar = {"POST": CONNECT}

    @extend_schema(**docs.AUTHORIZE)
    def post(self, request: Request, key: str) -> Response:
        auth = servers.find_auth_config(key, actor=self.actor)
        redirect_uri = request.query_params.get("redirect_uri") or request.data.get("redirect_uri") or ""
        begun = connections.begin_connection(auth, actor=self.actor, redirect_uri=str(redirect_uri))
        if begun.connection:
            return Response({"status": "connected", "connection": show_connection(begun.connection)})
        return Response({"authorization_url": begun.authorization_url})


class OAuthCallback(ActorView):
    scopes: ClassVar = {"GET": CONNECT}

    @extend_schema(**docs.CALLBACK)
    def get(self, request: Request) -> Response:
        connection = connections.complete_connection(request.query_params.dict(), actor=self.actor)
        return Response({"status": "connected", "connection": show_connection(connection)})


# --- MCP servers -------------------------------------------------------------------------------------------------------


class ServerView(ActorView):
    """What the server views share: finding, filling and showing one."""

    def server(self, key: str) -> McpServer:
        return servers.find_server(key, actor=self.actor)

    def show(self, server: McpServer) -> dict[str, Any]:
        mine = connections_by_server([server], self.actor)
        state = server_state(server, mine.get(server.pk))
        return show_server(server, state, tool_counts([server]).get(server.pk, 0))

    def fill(self, server: McpServer, values: dict[str, Any]) -> AuthConfig | None:
        """Copy the body onto the row; returns the auth config that came or changed with it."""
        inline, auth_id = values.pop("auth_config", None), values.pop("auth_config_id", ...)
        values.pop("test_connection", None)
        if "env" in values:
            values["env"] = keep_redacted(values["env"], server.env)
        for name, value in values.items():
            setattr(server, name, value)
        if auth_id is None:
            server.auth_config = None
        elif auth_id is not ...:
            server.auth_config = self._auth_config(auth_id)
        if not inline:
            return None
        auth = server.auth_config or AuthConfig(organization=self.actor.organization)
        if auth._state.adding and not inline.get("name"):
            inline["name"] = servers.unique_auth_name(f"{server.name} sign-in", actor=self.actor)
        return fill_auth_config(auth, inline)

    def _auth_config(self, key: str) -> AuthConfig:
        try:
            return servers.find_auth_config(key, actor=self.actor)
        except NotFound as error:
            raise InvalidInput(error.message, fields={"auth_config_id": [error.message]}) from None

    def answer(self, saved: servers.Saved, status: int) -> Response:
        body = self.show(saved.server)
        body["connection_test_result"] = saved.test.as_json() if saved.test else None
        body["discovery_result"] = saved.discovery.as_json() if saved.discovery else None
        if saved.test and saved.test.check:
            body["connection_test_result"]["tools"] = saved.test.check.tools
        return Response(body, status=status)


class ServerList(ServerView):
    @extend_schema(**docs.LIST_SERVERS)
    def get(self, request: Request) -> Response:
        rows = McpServer.objects.visible_to(self.actor).select_related("auth_config")
        paginator_rows: list[McpServer] = []

        def collect(server: McpServer) -> dict[str, Any]:
            paginator_rows.append(server)
            return {}

        response = self.page(rows, collect)
        mine, counts = connections_by_server(paginator_rows, self.actor), tool_counts(paginator_rows)
        response.data["results"] = [
            show_server(row, server_state(row, mine.get(row.pk)), counts.get(row.pk, 0)) for row in paginator_rows
        ]
        return response

    @extend_schema(**docs.CREATE_SERVER)
    def post(self, request: Request) -> Response:
        values = self.read(ServerIn, request)
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
        auth = self.fill(server, self.read(ServerIn, request, partial=True))
        return self.answer(servers.save_server(server, actor=self.actor, auth=auth), 200)

    @extend_schema(**docs.PUT_SERVER)
    def put(self, request: Request, key: str) -> Response:
        """Create the server with this slug, or make it as the body says: the same request twice changes nothing."""
        values = self.read(ServerIn, request)
        test = values.get("test_connection", True)
        try:
            server, created = self.server(key), False
        except NotFound:
            if not slug_validator.regex.match(key):  # type: ignore[union-attr]
                raise InvalidInput(str(slug_validator.message), fields={"slug": [str(slug_validator.message)]}) from None
            server, created = McpServer(organization=self.actor.organization, slug=key), True
        auth = self.fill(server, values)
        return self.answer(servers.save_server(server, actor=self.actor, auth=auth, test=test), 201 if created else 200)

    @extend_schema(**docs.DELETE)
    def delete(self, request: Request, key: str) -> Response:
        servers.delete_server(self.server(key), actor=self.actor)
        return no_content()


class ServerDiscover(ServerView):
    scopes: ClassVar = {"POST": MANAGE}

    @extend_schema(**docs.DISCOVER)
    def post(self, request: Request) -> Response:
        url = self.read(DiscoverIn, request)["url"]
        return Response(discover_server(url, actor=self.actor).as_json())


class ServerTestUnsaved(ServerView):
    @extend_schema(**docs.TEST_UNSAVED)
    def post(self, request: Request) -> Response:
        self.actor.require_admin()
        values = self.read(ServerIn, request)
        server = McpServer(organization=self.actor.organization)
        server.auth_config = self.fill(server, values) or server.auth_config
        servers.check_unsaved(server, actor=self.actor)
        return Response(_test_body(servers.try_server(server, actor=self.actor)))


class ServerTest(ServerView):
    scopes: ClassVar = {"POST": CONNECT}

    @extend_schema(**docs.TEST_SERVER)
    def post(self, request: Request, key: str) -> Response:
        return Response(_test_body(servers.test_server(self.server(key), actor=self.actor)))


def _test_body(result: servers.TestResult) -> dict[str, Any]:
    tools = result.check.tools if result.check else []
    return {**result.as_json(), "tools": tools}


class ServerConnect(ServerView):
    scopes: ClassVar = {"POST": CONNECT}

    @extend_schema(**docs.CONNECT)
    def post(self, request: Request, key: str) -> Response:
        return Response(begin(self.server(key), self, str(request.data.get("redirect_uri") or "")))


def begin(server: McpServer, view: ActorView, redirect_uri: str = "") -> dict[str, Any]:
    """The answer that starts a connection: where to send the person, or that it is there already."""
    auth = server.auth_config
    if auth is None or not auth.is_oauth:
        return {"status": "connected", "authorization_url": None}
    begun = connections.begin_connection(auth, actor=view.actor, redirect_uri=redirect_uri)
    if begun.connection:
        return {"status": begun.connection.status, "authorization_url": None}
    return {"status": "authorization_required", "authorization_url": begun.authorization_url}


class ServerConnection(ServerView):
    @extend_schema(**docs.CONNECTION)
    def get(self, request: Request, key: str) -> Response:
        server = self.server(key)
        auth = server.auth_config
        if auth is None or not auth.is_oauth:
            return Response({"status": "connected", "error": None, "expires_at": None})
        connection = connections_by_server([server], self.actor).get(server.pk)
        if connection is None:
            return Response({"status": "not_connected", "error": None, "expires_at": None})
        return Response(show_connection(connection))


class ServerDisconnect(ServerView):
    scopes: ClassVar = {"POST": CONNECT}

    @extend_schema(**docs.DISCONNECT)
    def post(self, request: Request, key: str) -> Response:
        connection = connections_by_server([self.server(key)], self.actor).get(self.server(key).pk)
        if connection is None:
            return Response({"status": "not_connected", "revocation": None})
        return Response({"status": "not_connected", "revocation": _revoke(connection, self)})


def _revoke(connection: Connection, view: ActorView) -> dict[str, str]:
    outcome = connections.disconnect(connection, actor=view.actor)
    return {"outcome": outcome.outcome, "detail": outcome.words}


class ServerTools(ServerView):
    @extend_schema(**docs.TOOLS)
    def get(self, request: Request, key: str) -> Response:
        server = self.server(key)
        learn_if_possible(server, self)
        return self.page(tools_of(server), show_tool)


def learn_if_possible(server: McpServer, view: ActorView) -> None:
    """List a server that was never listed, when the caller can reach it; otherwise say why there is nothing."""
    if server.tools_synced_at is None and server.is_enabled:
        result = servers.test_server(server, actor=view.actor)
        if result.status == "sign_in":
            raise ConnectionRequired(result.message, extra=begin(server, view))


class ServerToolsRefresh(ServerView):
    scopes: ClassVar = {"POST": READ}

    @extend_schema(**docs.TOOLS_REFRESH)
    def post(self, request: Request, key: str) -> Response:
        server = self.server(key)
        if not server.is_enabled:
            raise Conflict(f"{server} is switched off.", code="server_disabled")
        usable_connection(server, self.actor)
        result = servers.test_server(server, actor=self.actor)
        if result.status == "sign_in":
            raise ConnectionRequired(result.message, extra=begin(server, self))
        tools: list[Tool] = list(tools_of(server))
        return Response({**_test_body(result), "results": [show_tool(tool) for tool in tools]})


# --- Connections -------------------------------------------------------------------------------------------------------


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
        connection = connections.find_connection(pk, actor=self.actor)
        return Response({"status": "not_connected", "revocation": _revoke(connection, self)})
