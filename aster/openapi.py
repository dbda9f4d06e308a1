"""How the OpenAPI document is put together: one way to describe an operation, and the errors they share.

Imported by the `api_docs` of each app, which hold the words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, inline_serializer
from rest_framework import serializers

Operation = dict[str, Any]
Shape = type[serializers.Serializer[Any]]


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "aster.accounts.authentication.ApiKeyAuthentication"
    name: Any = ("bearerKey", "headerKey")

    def get_security_definition(self, auto_schema: Any) -> list[dict[str, str]]:
        return [
            {"type": "http", "scheme": "bearer", "description": "An API key: `Authorization: Bearer ask_…`"},
            {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key in its own header."},
        ]

    def get_security_requirement(self, auto_schema: Any) -> list[dict[str, list[str]]]:
        # One of them is enough; a single mapping would ask for both.
        return [{name: []} for name in self.name]


class SessionCookieScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "rest_framework.authentication.SessionAuthentication"
    name = "sessionCookie"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        words = "The hub's session. Changes also need the CSRF token in `X-CSRFToken`."
        return {"type": "apiKey", "in": "cookie", "name": settings.SESSION_COOKIE_NAME, "description": words}


# --- Errors ---------------------------------------------------------------------------------------------------------


class ErrorOut(serializers.Serializer[Any]):
    """Every refusal. Branch on `code`: `detail` is for people and may change."""

    code = serializers.CharField(help_text="Stable, for programs")
    detail = serializers.CharField(help_text="One sentence that says what to do")
    fields = serializers.DictField(  # type: ignore[assignment]
        child=serializers.ListField(child=serializers.CharField()),
        help_text="Messages per field of the body; empty when no field is to blame",
    )


class UpstreamErrorOut(ErrorOut):
    """The MCP server or the OAuth provider failed."""

    step = serializers.CharField(
        help_text="Where: url, dial, http, auth, initialize, tools, discovery, registration, token or call"
    )
    hint = serializers.CharField(allow_blank=True, help_text="How to fix it")
    retryable = serializers.BooleanField(help_text="Whether the same request may work later")


UNKNOWN_KEY = {"code": "authentication_failed", "detail": "This API key is unknown, expired or revoked.", "fields": {}}
UNKNOWN_FIELD = {"code": "invalid", "detail": "nmae: Unknown field.", "fields": {"nmae": ["Unknown field."]}}
MISSING_SCOPE = {
    "code": "missing_scope", "detail": "This API key lacks the scope aster:manage.", "fields": {},
    "scope": "aster:manage",
}  # fmt: skip
ADMINS_ONLY = {
    "code": "not_allowed", "detail": "Only an admin of the organization can do this. Ask one of them.", "fields": {},
}  # fmt: skip
UNREACHABLE = {
    "code": "upstream_error", "detail": "Nobody answers at mcp.example.com:443. Is the server running?", "fields": {},
    "step": "dial", "hint": "Check the server's URL.", "retryable": True,
}  # fmt: skip
TIMED_OUT = {
    "code": "timeout", "detail": "The tool did not answer within 30 seconds.", "fields": {},
    "step": "call", "hint": "Try again, or raise the timeout.", "retryable": True,
}  # fmt: skip
NOT_FOUND = {"code": "not_found", "detail": "There is no such MCP server.", "fields": {}}
IN_USE = {"code": "in_use", "detail": "Still used by Acme Notes. Change or delete that first.", "fields": {}}
FORBIDDEN = {
    "code": "forbidden_address", "detail": "127.0.0.1 is not a public address.",
    "fields": {"url": ["127.0.0.1 is not a public address."]},
}  # fmt: skip

_ERRORS: Mapping[int, tuple[Shape, str, dict[str, Any]]] = {
    400: (ErrorOut, "The body or the query string is wrong; `fields` says where.", {"Unknown field": UNKNOWN_FIELD}),
    401: (ErrorOut, "No key or session, or one that is not accepted.", {"Unknown key": UNKNOWN_KEY}),
    403: (
        ErrorOut,
        "The key's scopes or the caller's role do not allow this.",
        {"Missing scope": MISSING_SCOPE, "Not an admin": ADMINS_ONLY},
    ),
    404: (ErrorOut, "It does not exist, or it belongs to another organization.", {"Not found": NOT_FOUND}),
    409: (ErrorOut, "It is in use, taken, or switched off.", {"In use": IN_USE}),
    422: (ErrorOut, "An address that Aster refuses to reach.", {"Forbidden address": FORBIDDEN}),
    502: (UpstreamErrorOut, "The MCP server or the OAuth provider failed; see `step`.", {"Unreachable": UNREACHABLE}),
    504: (UpstreamErrorOut, "The MCP server or the OAuth provider did not answer in time.", {"Timeout": TIMED_OUT}),
}


def error_responses(*statuses: int) -> dict[int, OpenApiResponse]:
    # Whoever waits for another server may also wait in vain.
    too_slow = (504,) if 502 in statuses else ()
    return {status: refusal(*_ERRORS[status]) for status in (*statuses, *too_slow)}


def refusal(shape: Shape, words: str, examples: Mapping[str, dict[str, Any]]) -> OpenApiResponse:
    named = [OpenApiExample(name, value=value, response_only=True) for name, value in examples.items()]
    return OpenApiResponse(shape, description=words, examples=named)


# --- Operations -----------------------------------------------------------------------------------------------------


def operation(
    operation_id: str,
    summary: str,
    *,
    tag: str,
    words: str = "",
    request: Shape | None = None,
    bodies: Mapping[str, Any] | None = None,
    response: Any = None,
    status: int = 200,
    example: Any = None,
    parameters: Sequence[OpenApiParameter] = (),
    errors: Sequence[int] = (),
    refusals: Mapping[int, OpenApiResponse] | None = None,
) -> Operation:
    """The arguments of `extend_schema` for one operation.

    `bodies` are named example requests, `example` is the answer to the first of them. `errors` names the statuses that
    are answered as everywhere; `refusals` those that carry more. 401 and 403 come with every operation.
    """
    requests = [OpenApiExample(name, value=value, request_only=True) for name, value in (bodies or {}).items()]
    answers = [] if example is None else [OpenApiExample("Answer", value=example, response_only=True)]
    return {
        "operation_id": operation_id,
        "summary": summary,
        "description": words,
        "tags": [tag],
        "request": request,
        "examples": requests,
        "parameters": list(parameters),
        "responses": {
            status: OpenApiResponse(response, description=summary, examples=answers),
            **error_responses(401, 403, *errors),
            **(refusals or {}),
        },
    }


def page_of(name: str, shape: Shape) -> Any:
    """The shape of a list's answer."""
    words = "The address of the next page, or null"
    return inline_serializer(
        name,
        {
            "next": serializers.URLField(allow_null=True, help_text=words),
            "previous": serializers.URLField(allow_null=True),
            "results": shape(many=True),
        },
    )


def page_example(*rows: Any) -> dict[str, Any]:
    return {"next": None, "previous": None, "results": list(rows)}


PAGE_PARAMETERS = (
    OpenApiParameter("cursor", str, description="The page to show, from `next` or `previous` of another one."),
    OpenApiParameter("page_size", int, description="Rows on a page, 1 to 200. 50 if left out."),
)


def key_parameter(of_what: str, *, slug: bool = True) -> OpenApiParameter:
    words = f"The id or slug of the {of_what}." if slug else f"The id of the {of_what}."
    return OpenApiParameter("key", str, OpenApiParameter.PATH, description=words)


def id_parameter(of_what: str) -> OpenApiParameter:
    return OpenApiParameter("id", int, OpenApiParameter.PATH, description=f"The id of the {of_what}.")


def filter_parameter(name: str, words: str, choices: Sequence[str] | None = None) -> OpenApiParameter:
    return OpenApiParameter(name, str, description=words, enum=list(choices) if choices else None)
