"""What every HTTP request passes, whatever page or API it is for: request id, content security policy, addresses that
make no sense, one host name; and what of it gets into logs and error reports."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, ItemsView
from contextvars import ContextVar
from typing import Any, cast
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
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


class ExpectedRefusals(logging.Filter):
    """Keeps the traceback of what was refused on purpose (403, 404, a malformed request) out of the log."""

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(record, "status_code", 500) < 500:
            record.exc_info = record.exc_text = None
        return True


def refuse(request: HttpRequest, status: int, code: str, detail: str) -> HttpResponse:
    """A refusal that no view makes: the API's error shape below /api/, a page elsewhere."""
    from aster.api import error_body  # logging loads this module before there are apps, and with them DRF

    if request.path.startswith("/api/"):
        return JsonResponse(error_body(code, detail), status=status)
    return render(request, f"{status}.html", status=status)


class AddressMiddleware:
    """Refuses addresses with a null character: no text of ours holds one, and PostgreSQL will not look for it."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if "%00" in request.META.get("QUERY_STRING", "") or "\0" in request.path:
            return refuse(request, 400, "bad_request", "Null characters are not allowed in addresses.")
        return self.get_response(request)


class ContentSecurityPolicyMiddleware:
    """Nothing runs, loads or is framed but our own files."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        return response


def client_address(request: HttpRequest) -> str:
    """The network address the request comes from: behind proxies of ours, what the first of them saw."""
    hops = [hop.strip() for hop in request.headers.get("X-Forwarded-For", "").split(",")]
    count = settings.ASTER_PROXIES
    if not count or len(hops) < count or not (hop := hops[-count]):
        return str(request.META.get("REMOTE_ADDR", ""))
    return hop.partition(":")[0] if hop.count(":") == 1 else hop  # some proxies write the port beside an IPv4 address


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
