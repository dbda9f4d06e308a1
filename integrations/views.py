from __future__ import annotations

from django.http import HttpRequest, HttpResponse

urlpatterns: list = []

def oauth_callback(request: HttpRequest) -> HttpResponse: ...
