"""Who Aster is, for authorization servers that take a URL as client id (OAuth Client ID Metadata Document)."""

from __future__ import annotations

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe

from integrations.services.clients import client_metadata


@require_safe
@cache_control(public=True, max_age=3600)
def client_metadata_document(request: HttpRequest) -> HttpResponse:
    """Public by design: it holds the callback URL and no secret."""
    if not settings.ASTER_CLIENT_METADATA_URL:
        raise Http404
    return JsonResponse(client_metadata(), headers={"Access-Control-Allow-Origin": "*"})
