"""Small pieces every HTTP request passes: request id, content security policy, one host name, safe error reports."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, ItemsView
from contextvars import ContextVar
from typing import Any, cast
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.views.debug import SafeExceptionReporterFilter

GetResponse = Callable[[HttpRequest], HttpResponse]
request_id: ContextVar[str] = ContextVar("request_id", default="-")

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)


class RequestIdMiddleware:
    """Names each request in logs, audit rows and the `X-Request-Id` response header."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if "%00" in request.META.get("QUERY_STRING", "") or "\0" in request.path:
            # No text of ours holds one, and PostgreSQL refuses to look for it.
            return HttpResponse("Null characters are not allowed in addresses.", status=400, content_type="text/plain")
        identifier = uuid.uuid4().hex[:16]
        token = request_id.set(identifier)
        cast(Any, request).request_id = identifier
        try:
            response = self.get_response(request)
        finally:
            request_id.reset(token)
        response["X-Request-Id"] = identifier
        return response


class RequestIdFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get()
        return True


class ContentSecurityPolicyMiddleware:
    """Nothing runs, loads or is framed but our own files."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        return response


_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class CanonicalHostMiddleware:
    """Sends a browser that came by another loopback name to the public one.

    The provider redirects to the public URL, and a session cookie of `localhost` does not reach `127.0.0.1`.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        self.public = urlsplit(settings.ASTER_PUBLIC_URL)

    def __call__(self, request: HttpRequest) -> HttpResponse:
        host = urlsplit(f"//{request.get_host()}")
        both_loopback = {host.hostname, self.public.hostname} <= _LOOPBACK
        is_page = request.method == "GET" and request.path.startswith("/hub/")
        if is_page and both_loopback and host.hostname != self.public.hostname and host.port == self.public.port:
            return HttpResponseRedirect(f"{settings.ASTER_PUBLIC_URL}{request.get_full_path()}")
        return self.get_response(request)


class NoLocalsFilter(SafeExceptionReporterFilter):
    """Error reports without local variables or request bodies: a token may be in any of them."""

    def is_active(self, request: HttpRequest | None) -> bool:
        return True

    def get_post_parameters(self, request: HttpRequest | None) -> dict[str, Any]:
        return {}

    def get_traceback_frame_variables(self, request: Any, tb_frame: Any) -> ItemsView[str, Any]:
        return dict[str, Any]().items()
