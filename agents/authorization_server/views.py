"""What clients ask without a person: metadata, registration, tokens, revocation."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_variables
from oauth2_provider.oauth2_backends import OAuthLibCore

from agents.authorization_server import registration
from agents.authorization_server.authorize import authorize
from agents.authorization_server.endpoints import Endpoint, issuer
from aster.accounts.access import CALL
from aster.errors import AsterError
from aster.web import client_address

__all__ = ["authorization_server", "authorize", "protected_resource", "register", "revoke", "token"]

MAX_BODY = 64 * 1024
View = Callable[..., HttpResponse]


def for_programs(*methods: str) -> Callable[[View], View]:
    """Asked by programs, also by pages of other origins (CORS): no cookie counts here, so there is nothing to forge."""

    def decorate(view: View) -> View:
        @csrf_exempt
        @wraps(view)
        def answer(request: HttpRequest, **kwargs: Any) -> HttpResponse:
            if request.method == "OPTIONS":
                response = HttpResponse(status=204)
                response["Access-Control-Allow-Methods"] = ", ".join(methods)
                response["Access-Control-Allow-Headers"] = "Authorization, Content-Type, MCP-Protocol-Version"
            elif request.method not in methods:
                response = _error("invalid_request", f"Use {methods[0]}.", 405)
                response["Allow"] = ", ".join(methods)
            else:
                response = view(request, **kwargs)
            response["Access-Control-Allow-Origin"] = "*"
            response.setdefault("Cache-Control", "no-store")
            return response

        return answer

    return decorate


def _error(code: str, words: str, status: int = 400) -> HttpResponse:
    return JsonResponse({"error": code, "error_description": words}, status=status)


@for_programs("GET", "HEAD")
def authorization_server(request: HttpRequest) -> HttpResponse:
    """RFC 8414. Claude asks for a metadata document of a client only where both that and `none` are listed."""
    base, methods = issuer(), list(registration.AUTH_METHODS)
    document = {
        "issuer": base,
        "authorization_endpoint": f"{base}/oauth/authorize",
        "token_endpoint": f"{base}/oauth/token",
        "registration_endpoint": f"{base}/oauth/register",
        "revocation_endpoint": f"{base}/oauth/revoke",
        "scopes_supported": [CALL],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": list(registration.GRANT_TYPES),
        "token_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_methods_supported": methods,
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": True,
        "client_id_metadata_document_supported": True,
    }
    return JsonResponse(document, headers={"Cache-Control": "public, max-age=300"})


@for_programs("GET", "HEAD")
def protected_resource(request: HttpRequest, path: str) -> HttpResponse:
    """RFC 9728, the same for every address that an endpoint could have: nobody finds out here which ones there are."""
    endpoint = Endpoint.at_path(f"/{path}")
    if endpoint is None:
        return _error("not_found", "There is no protected resource at this address.", 404)
    document = {
        "resource": endpoint.url,
        "authorization_servers": [issuer()],
        "scopes_supported": [CALL],
        "bearer_methods_supported": ["header"],
    }
    return JsonResponse(document, headers={"Cache-Control": "public, max-age=300"})


@for_programs("POST")
@sensitive_variables()
def register(request: HttpRequest) -> HttpResponse:
    """RFC 7591."""
    try:
        registration.brake(client_address(request))
        metadata = json.loads(request.body) if len(request.body) <= MAX_BODY else None
        if not isinstance(metadata, dict):
            raise registration.Refused("Send one JSON object with the client's metadata.")
        return JsonResponse(registration.register(metadata), status=201)
    except (ValueError, RecursionError):
        return _error("invalid_client_metadata", "The body is not JSON.")
    except AsterError as error:
        response = _error(error.code, error.message, error.http_status)
        if isinstance(error, registration.TooMany):
            response["Retry-After"] = str(registration.WINDOW_SECONDS)
        return response


@for_programs("POST")
@sensitive_variables()
def token(request: HttpRequest) -> HttpResponse:
    """RFC 6749 §3.2."""
    _url, headers, body, status = OAuthLibCore().create_token_response(request)
    return _as_told(headers, body, status)


@for_programs("POST")
@sensitive_variables()
def revoke(request: HttpRequest) -> HttpResponse:
    """RFC 7009."""
    _url, headers, body, status = OAuthLibCore().create_revocation_response(request)
    return _as_told(headers, body, status)


def _as_told(headers: dict[str, str], body: str | None, status: int) -> HttpResponse:
    response = HttpResponse(body or "", status=status, content_type="application/json")
    for name, value in headers.items():
        response[name] = value
    return response
