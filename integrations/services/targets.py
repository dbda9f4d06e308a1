"""From rows to a Target: the headers, environment and token that reach one server, put together here alone."""

from __future__ import annotations

import base64
import inspect
import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import cast

from django.conf import settings
from django.db.models import Q

from aster.accounts.models import User
from aster.errors import InvalidInput
from aster.threads import in_waiting_thread
from integrations.mcp_client import Target
from integrations.mcp_client.target import TokenSource
from integrations.models import AuthConfig, AuthType, Connection, McpServer

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_HEADER_NAME = re.compile(r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
# Headers that the transport owns; letting an admin set them would break the protocol or smuggle requests.
_RESERVED_HEADERS = {"host", "content-length", "transfer-encoding", "connection", "content-type", "accept"}

TokenOf = Callable[[str | None], str | None]


def expand_variables(text: str, field: str) -> str:
    """Replace `${VAR}` with the operator's environment variable. Only names in ASTER_ENV_VARS count.

    Raises InvalidInput that names the variable, never its value.
    """

    def value_of(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in settings.ASTER_ENV_VARS:
            message = f"${{{name}}} is not available. Ask the operator to list {name} in ASTER_ENV_VARS."
            raise InvalidInput(message, code="unknown_variable", fields={field: [message]})
        if name not in os.environ:
            message = f"${{{name}}} is allowed, but the variable is not set where Aster runs."
            raise InvalidInput(message, code="unset_variable", fields={field: [message]})
        return os.environ[name]

    return _VARIABLE.sub(value_of, text)


def is_reserved_header(name: str) -> bool:
    """Whether Aster sets a header of this name by itself."""
    return name.lower() in _RESERVED_HEADERS or name.lower().startswith("mcp-")


def check_headers(headers: Mapping[str, str]) -> None:
    """Refuse header names and values that HTTP cannot carry, with the name in the message."""
    if not isinstance(headers, dict):
        raise InvalidInput("Headers must map names to texts.", fields={"custom_headers": ["Must map names to texts."]})
    for name, value in headers.items():
        problem = ""
        if not _HEADER_NAME.match(name):
            problem = f"“{name[:60]}” is not a header name."
        elif is_reserved_header(name):
            problem = f"{name} is set by Aster itself; leave it out."
        elif not isinstance(value, str) or any(ord(c) < 32 or ord(c) > 126 for c in value):
            problem = f"The value of {name} has characters that a header cannot carry."
        if problem:
            raise InvalidInput(problem, fields={"custom_headers": [problem]})


def static_headers(auth: AuthConfig | None) -> dict[str, str]:
    """The shared credentials of an auth config as request headers."""
    if auth is None:
        return {}
    headers = {name: expand_variables(value, "custom_headers") for name, value in auth.custom_headers.items()}
    if auth.auth_type == AuthType.BEARER and auth.token:
        headers["Authorization"] = f"Bearer {expand_variables(auth.token, 'token')}"
    if auth.auth_type == AuthType.BASIC:
        pair = f"{auth.username}:{expand_variables(auth.password, 'password')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    check_headers(headers)
    return headers


def build_target(
    server: McpServer, *, token_of: TokenOf | TokenSource | None = None, connection: Connection | None = None
) -> Target:
    """A Target for `server`. `token_of(rejected)` gives an access token (see fresh_access_token); sync code runs in a
    thread.

    `connection` is whose it is: without, a server with personal sign-in is not called over kept connections.
    """
    return Target(
        transport=server.transport,  # type: ignore[arg-type]
        url=server.url,
        headers=static_headers(server.auth_config),
        token=_as_source(token_of),
        command=server.command,
        args=[expand_variables(str(arg), "args") for arg in server.args],
        env={name: expand_variables(value, "env") for name, value in server.env.items()},
        cwd=server.working_dir,
        timeout=float(server.timeout_seconds),
        retry_attempts=server.retry_attempts,
        era=server.era,  # type: ignore[arg-type]
        discover=server.discover_result,
        key=server.name,
        lane=(server.pk, connection.pk if connection else None) if connection or not server.needs_person else None,
    )


def _as_source(token_of: TokenOf | TokenSource | None) -> TokenSource | None:
    if token_of is None or inspect.iscoroutinefunction(token_of):
        return token_of

    async def token(rejected: str | None) -> str | None:
        return await in_waiting_thread(cast(TokenOf, token_of), rejected)

    return token


def connections_for(servers: Iterable[McpServer], user: User | None) -> dict[int, Connection]:
    """By server, the connection whose token a call by `user` uses: their own, or the organization's for client
    credentials. One query."""
    owners: dict[int, tuple[int, int | None]] = {}
    for server in servers:
        auth = server.auth_config
        if auth and auth.is_oauth and not auth._state.adding and (user or not auth.needs_person):
            owners[server.pk] = (auth.pk, user.pk if user and auth.needs_person else None)
    if not owners:
        return {}
    rows = Connection.objects.filter(auth_config__in={auth for auth, _ in owners.values()})
    rows = rows.filter(Q(user=None) | Q(user=user)).select_related("auth_config__organization", "user")
    found = {(row.auth_config_id, row.user_id): row for row in rows}
    return {pk: found[owner] for pk, owner in owners.items() if owner in found}


def connection_for(server: McpServer, user: User | None) -> Connection | None:
    return connections_for([server], user).get(server.pk)
