"""More rights when a tool needs them: `insufficient_scope` sends the person to consent to the union (RFC 6750 §3.1).

The grant in hand stays until the new one is stored. A server that is never content is not followed for ever: rights
that were granted, or asked for MAX_STEP_UPS times, are not asked for again.
"""

from __future__ import annotations

from collections.abc import Iterable

from django.db import transaction

from aster.errors import AsterError, ConnectionRequired, UpstreamError
from integrations.mcp_client import AuthChallenge
from integrations.models import AuthConfig, AuthType, Connection, McpServer
from integrations.oauth.challenges import bearer_challenge

MAX_STEP_UPS = 2


def union(*lists: Iterable[str]) -> list[str]:
    """All scopes of the lists, each once, in the order they come."""
    return list(dict.fromkeys(scope for scopes in lists for scope in scopes))


def scopes_to_request(auth: AuthConfig, connection: Connection | None) -> list[str]:
    """What the next consent asks for: the configured scopes and, after a step-up, what servers have said they need."""
    if connection is None or not connection.wanted_scopes:
        return list(auth.scopes)
    if connection.issuer != auth.issuer:  # the server has moved: what the old provider granted has no meaning here
        return union(auth.scopes, connection.wanted_scopes)
    return union(auth.scopes or connection.scopes, connection.requested_scopes, connection.wanted_scopes)


def missing_scopes(refused: AuthChallenge) -> list[str]:
    """The scopes a 403 (or 401) says are needed; empty if it is about something else."""
    challenge = bearer_challenge(refused.www_authenticate)
    return list(challenge.scopes) if challenge and challenge.error == "insufficient_scope" else []


def want_scopes(server: McpServer, connection: Connection | None, scopes: list[str]) -> AsterError:
    """Remember that `server` needs `scopes`; returns the refusal to raise, which leads the person to the consent.

    Where nobody consents (the organization's connection, a derived one) the scopes are an admin's to add.
    """
    words, auth = ", ".join(scopes), server.auth_config
    if connection is None or auth is None or auth.auth_type != AuthType.AUTHORIZATION_CODE:
        return UpstreamError(
            f"{server} needs more rights: {words}.",
            step="auth", code="insufficient_scope",
            hint=f"An admin can add these scopes to {auth}.",
        )  # fmt: skip
    with transaction.atomic():
        row = Connection.objects.select_for_update().filter(pk=connection.pk).order_by("pk").first()
        if row is None:
            return ConnectionRequired(f"Connect your account at {server} before using its tools.")
        was_granted, was_asked = set(scopes) <= set(row.scopes), set(scopes) <= set(row.requested_scopes)
        if was_granted or (was_asked and row.step_ups >= MAX_STEP_UPS):
            return UpstreamError(
                f"{server} refuses this and names rights that your sign-in has asked for already: {words}.",
                step="auth", code="insufficient_scope",
                hint="Ask the server's operator which rights this needs. Your connection is kept.",
            )  # fmt: skip
        if not set(scopes) <= set(row.wanted_scopes):
            row.wanted_scopes = union(row.wanted_scopes, scopes)
            row.step_ups = row.step_ups + 1 if was_asked else 1
            row.save(update_fields=["wanted_scopes", "step_ups"])
    return ConnectionRequired(
        f"{server} needs more rights than you have given: {words}. Connect again to allow them.",
        extra={"server_id": server.pk, "auth_config_id": connection.auth_config_id, "missing_scopes": scopes},
    )
