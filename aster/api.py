"""Defaults of the REST API: one error shape and cursor pagination. DRF imports this while it starts: no views here."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404
from rest_framework import exceptions
from rest_framework.pagination import CursorPagination
from rest_framework.response import Response

from aster.errors import AsterError


class CursorPages(CursorPagination):
    """`?cursor=…&page_size=…`; newest last, so that pages stay stable while rows are added."""

    ordering: Any = "id"
    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 200


class NewestFirst(CursorPages):
    ordering = ("-at", "-id")


def error_body(code: str, detail: str, fields: Any = None, **extra: Any) -> dict[str, Any]:
    return {"code": code, "detail": detail, "fields": fields or {}, **extra}


def handle_exception(error: Exception, context: dict[str, Any]) -> Response | None:
    """Every refusal as `{code, detail, fields}`. Unknown errors stay 500 and say nothing of their cause."""
    if isinstance(error, AsterError):
        extra = dict(error.extra)
        for name in ("step", "hint"):
            if value := getattr(error, name, ""):
                extra.setdefault(name, value)
        return Response(error_body(error.code, error.message, error.fields, **extra), status=error.http_status)
    if isinstance(error, Http404):
        return Response(error_body("not_found", "There is nothing at this address."), status=404)
    if isinstance(error, PermissionDenied):
        return Response(error_body("not_allowed", "You may not do this."), status=403)
    if isinstance(error, exceptions.ValidationError):
        return Response(_validation_body(error.detail), status=400)
    if isinstance(error, exceptions.APIException):
        headers = {}
        if header := getattr(error, "auth_header", None):
            headers["WWW-Authenticate"] = header
        if isinstance(error, exceptions.Throttled) and error.wait:
            headers["Retry-After"] = str(int(error.wait))
        code = error.get_codes() if isinstance(error.detail, str) else "error"
        return Response(error_body(str(code), str(error.detail)), status=error.status_code, headers=headers)
    return None


def _validation_body(detail: Any) -> dict[str, Any]:
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
