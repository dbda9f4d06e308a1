"""People who sign in at the provider of tests/fakes/provider.py: what the tests of sign-ins start from."""

from __future__ import annotations

from typing import Any

import pytest

from aster.errors import AsterError
from integrations.models import AuthConfig, AuthType, Connection, McpServer
from integrations.services.connections import begin_connection, complete_connection
from integrations.services.servers import save_server
from tests.conftest import Person
from tests.fakes.provider import Site
from tests.integrations.hub import auth_of
from tests.walks.conftest import callback_params, consent


def add_server(place: Site, person: Person, name: str = "Docs", **fields: Any) -> McpServer:
    """The server of `place`, added by `person` with a sign-in of these `fields`."""
    known = {"name": f"{name} sign-in", "auth_type": AuthType.AUTHORIZATION_CODE}
    auth = AuthConfig(organization=person.organization, **{**known, **fields})
    return save_server(McpServer(name=name, url=place.mcp.url), auth=auth, actor=person.actor).server


def begin(server: McpServer, person: Person, **how: Any) -> str:
    """Click Connect; returns the address of the consent page."""
    url = begin_connection(fresh(auth_of(server)), actor=person.actor, **how).authorization_url
    assert url
    return url


def allow(server: McpServer, person: Person, name: str = "Ada Park", **how: Any) -> dict[str, str]:
    """Click Connect and consent; returns what the browser brings back."""
    return callback_params(consent(begin(server, person, **how), name))


def sign_in(server: McpServer, person: Person, name: str = "Ada Park") -> Connection:
    return complete_connection(allow(server, person, name), actor=person.actor)


def why_not(do: Any, *args: Any, **kwargs: Any) -> AsterError:
    """The refusal that this call ends with."""
    with pytest.raises(AsterError) as caught:
        do(*args, **kwargs)
    return caught.value


def fresh(auth: AuthConfig) -> AuthConfig:
    """The auth config as it is stored now."""
    return AuthConfig.objects.select_related("organization", "subject_config").get(pk=auth.pk)
