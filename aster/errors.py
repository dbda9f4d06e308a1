"""The one tree of errors that a person or a script may be shown.

Every refusal in Aster is an `AsterError`: it carries a stable `code`, a message that is safe to show and says what to
do, the HTTP status a face should answer with, and whether trying again unchanged can help. The adapters that turn it
into a flash message, an API body or an MCP error live with their faces. Anything else that is raised is a bug.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class AsterError(Exception):
    """Base of everything Aster refuses or fails at on purpose.

    `fields` maps a form or body field to its messages, so that pages show the error beside the field and the API
    names it. `extra` is merged into API bodies (for example `authorization_url`); it never holds a secret.
    """

    code = "error"
    http_status = 400
    retryable = False

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        fields: Mapping[str, Sequence[str]] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.fields = {name: list(messages) for name, messages in (fields or {}).items()}
        self.extra = dict(extra or {})


class InvalidInput(AsterError):
    """What was sent cannot be used as it is; `fields` says where."""

    code = "invalid"
    http_status = 400


class NotSignedIn(AsterError):
    """What the caller shows does not open this door, or not any more; `code` says which."""

    code = "authentication_failed"
    http_status = 401


class NotAllowed(AsterError):
    """The caller is known, but the role or the key's scopes do not allow this."""

    code = "not_allowed"
    http_status = 403


class NotFound(AsterError):
    """Missing and not visible are the same answer."""

    code = "not_found"
    http_status = 404


class Conflict(AsterError):
    """Somebody else changed the same thing first, or the name is taken."""

    code = "conflict"
    http_status = 409


class ForbiddenAddress(AsterError):
    """An outbound address that the egress guard refuses (SSRF)."""

    code = "forbidden_address"
    http_status = 422


class UpstreamError(AsterError):
    """The other side (an MCP server or an OAuth provider) failed or answered nonsense.

    `step` names where: url, dial, http, auth, initialize, tools, discovery, registration, token, call. With the code
    `TIMEOUT` it was too slow, which is a 504 (RFC 9110 §15.6.5).
    """

    TIMEOUT = "timeout"

    code = "upstream_error"
    http_status = 502

    def __init__(self, message: str, *, step: str = "", retryable: bool = False, hint: str = "", **kw: Any) -> None:
        super().__init__(message, **kw)
        self.step = step
        self.hint = hint
        self.retryable = retryable
        if self.code == self.TIMEOUT:
            self.http_status = 504


class ConnectionTestFailed(AsterError):
    """A server was not stored because the test that guards creation failed (422)."""

    code = "connection_test_failed"
    http_status = 422


class ConnectionRequired(AsterError):
    """The call needs the caller's own sign-in at the provider; `extra` carries where to get it."""

    code = "connection_required"
    http_status = 409


def bug_words(request_id: str) -> str:
    """All that is said of a bug: where to find it. Its own words may hold anything."""
    return f"Aster failed; this is a bug. Its log has the reason under the request id {request_id}."
