"""What the gateway says to a client that has to sign in, or whose token is not enough (RFC 6750 §3, RFC 9728 §5.1)."""

from __future__ import annotations

from agents.authorization_server.endpoints import Endpoint
from aster.accounts.access import CALL

EXPIRED = "The token is unknown, expired or revoked, or it is for another address. Sign in again."


def challenge(path: str, *, had_token: bool = False) -> str:
    """The WWW-Authenticate of a 401 at this path of the gateway. It is the same whether or not anything is there."""
    error = f'error="invalid_token", error_description="{EXPIRED}", ' if had_token else ""
    return f'Bearer {error}{_where(path)}scope="{CALL}"'


def insufficient(path: str, scope: str = CALL) -> str:
    """The WWW-Authenticate of a 403: the token is good, and lacks this scope."""
    words = f"This app lacks the scope {scope}."
    return f'Bearer error="insufficient_scope", error_description="{words}", {_where(path)}scope="{scope}"'


def _where(path: str) -> str:
    endpoint = Endpoint.at_path(path)
    return f'resource_metadata="{endpoint.metadata_url}", ' if endpoint else ""
