"""Defaults of the REST API: one error shape and cursor pagination. DRF imports this while it starts: no views here."""

from __future__ import annotations

import logging
from typing import Any

from django.core.exceptions import PermissionDenied, SuspiciousOperation, ValidationError
from django.core.signals import got_request_exception
from django.http import Http404
from rest_framework import exceptions
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response

from aster.errors import AsterError, UpstreamError, bug_words

log = logging.getLogger(__name__)


class CursorPages(CursorPagination):
    """`?cursor=…&page_size=…`; newest last, so that pages stay stable while rows are added.

    A cursor is opaque: one that Aster did not give is a 404, and a page size that is no number from 1 to 200 a 400.
    """

    ordering: Any = "id"
    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 200

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any] | None:
        try:
            return super().paginate_queryset(queryset, request, view)
        except (ValueError, OverflowError, ValidationError):
            # DRF decodes a cursor without looking at the position in it.
            raise exceptions.NotFound(self.invalid_cursor_message) from None

    def get_page_size(self, request: Request) -> int | None:
        given = request.query_params.get("page_size")
        if given is not None and not (given.isdecimal() and len(given) < 6 and 1 <= int(given) <= self.max_page_size):
            raise exceptions.ValidationError({"page_size": [f"Give a number from 1 to {self.max_page_size}."]})
        return super().get_page_size(request)


class NewestFirst(CursorPages):
    ordering = ("-at", "-id")


class LatestFirst(CursorPages):
    ordering = "-id"


def error_body(code: str, detail: str, fields: Any = None, **extra: Any) -> dict[str, Any]:
    return {"code": code, "detail": detail, "fields": fields or {}, **extra}


def handle_exception(error: Exception, context: dict[str, Any]) -> Response:
    """Every refusal as `{code, detail, fields}`. Unknown errors are a 500 that says nothing of its cause."""
    if isinstance(error, AsterError):
        return Response(refusal_body(error), status=error.http_status)
    if isinstance(error, Http404):
        return Response(error_body("not_found", "There is nothing at this address."), status=404)
    if isinstance(error, SuspiciousOperation):
        return Response(error_body("bad_request", "The request is malformed."), status=400)
    if isinstance(error, PermissionDenied):
        return Response(error_body("not_allowed", "You may not do this."), status=403)
    if isinstance(error, exceptions.ValidationError):
        return Response(validation_body(error.detail), status=400)
    if isinstance(error, exceptions.APIException):
        headers = {}
        if header := getattr(error, "auth_header", None):
            headers["WWW-Authenticate"] = header
        if wait := getattr(error, "wait", None):  # a throttle says how long
            headers["Retry-After"] = str(int(wait))
        code = error.get_codes() if isinstance(error.detail, str) else "error"
        return Response(error_body(str(code), str(error.detail)), status=error.status_code, headers=headers)
    return _explain_bug(error, context)


def _explain_bug(error: Exception, context: dict[str, Any]) -> Response:
    request: Request = context["request"]
    log.error("%s %s failed", request.method, request.path, exc_info=error)
    got_request_exception.send(sender=None, request=request._request)
    identifier = getattr(request, "request_id", "")
    return Response(error_body("internal_error", bug_words(identifier)), status=500)


def refusal_body(error: AsterError) -> dict[str, Any]:
    """What a script is told about one of Aster's own errors."""
    extra = dict(error.extra)
    if isinstance(error, UpstreamError):
        extra = {"step": error.step, "hint": error.hint, "retryable": error.retryable, **extra}
    return error_body(error.code, error.message, error.fields, **extra)


def validation_body(detail: Any) -> dict[str, Any]:
    fields: dict[str, list[str]] = {}
    _flatten(detail, "", fields)
    first = next(((name, words[0]) for name, words in fields.items() if words), ("", "Invalid."))
    summary = first[1] if first[0] in ("", "detail") else f"{first[0]}: {first[1]}"
    return error_body("invalid", summary, fields)


def _flatten(detail: Any, path: str, into: dict[str, list[str]]) -> None:
    """DRF nests errors as the body nests; here a nested field is `auth_config.token_url`."""
    if isinstance(detail, dict):
        for name, inner in detail.items():
            key = "" if name == "non_field_errors" else str(name)
            _flatten(inner, f"{path}.{key}".strip(".") if key else path, into)
    elif isinstance(detail, list) and any(isinstance(inner, dict | list) for inner in detail):
        for inner in detail:
            _flatten(inner, path, into)
    else:
        words = detail if isinstance(detail, list) else [detail]
        into.setdefault(path or "detail", []).extend(str(word) for word in words)
