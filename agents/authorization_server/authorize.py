"""The page on which a person lets an app in, and the way back to the app (RFC 6749 §4.1, OAuth 2.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from django.conf import settings
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods
from oauth2_provider.exceptions import FatalClientError, OAuthToolkitError
from oauth2_provider.models import Application
from oauth2_provider.oauth2_backends import OAuthLibCore
from oauthlib.oauth2.rfc6749.errors import OAuth2Error

from agents.authorization_server import connected_apps, redirects
from agents.authorization_server.client_documents import host_of_client, learn_client
from agents.authorization_server.endpoints import issuer
from agents.authorization_server.targets import InvalidTarget, Target, find_target
from aster.accounts.access import CALL
from aster.errors import AsterError

_S256 = re.compile(r"[A-Za-z0-9_-]{43}")  # 32 bytes in base64url (RFC 7636 §4.2)
PLAIN = "Send code_challenge_method=S256 and a code_challenge of 43 characters (PKCE, RFC 7636)."
START_AGAIN = (
    "Go back to the app and connect it again. If that does not help, remove the connection there and add it anew."
)


class _FromAddress(OAuthLibCore):  # type: ignore[misc]  # the toolkit has no types
    """Reads an authorization request from the address alone: the form of our page adds nothing to what was asked."""

    def extract_body(self, request: HttpRequest) -> list[Any]:
        return []


@dataclass(frozen=True)
class Asked:
    """An authorization request whose client and redirect URI are known to be good."""

    client: Application
    redirect_uri: str
    state: str
    scopes: list[str]
    credentials: dict[str, Any]


class Hopeless(Exception):
    """Nobody may be sent anywhere with this request: the client or its redirect URI is not what it should be."""


class Returned(Exception):
    """The request is answered to the client, with an error (RFC 6749 §4.1.2.1), once the person has read why.

    Going on by itself would lend Aster's name to any address: everybody may register a client (RFC 9700 §4.11.2).
    """

    def __init__(self, redirect_uri: str, client: Application | None, error: Mapping[str, str]) -> None:
        super().__init__(f"The app's request cannot be used: {error.get('error_description') or error['error']}")
        self.url, self.client = answer_url(redirect_uri, error), client


@require_http_methods(["GET", "POST"])
@sensitive_variables()
def authorize(request: HttpRequest) -> HttpResponse:
    if not request.user.is_authenticated:
        return HttpResponseRedirect(f"{settings.LOGIN_URL}?next={quote(request.get_full_path())}")
    try:
        asked = _read(request)
        target = find_target(request.GET.getlist("resource"), request.user, request_id=request.request_id)  # type: ignore[attr-defined]
    except Hopeless as problem:
        return _problem(request, str(problem), START_AGAIN)
    except Returned as answer:
        return _problem(request, str(answer), client=answer.client, back=answer.url)
    except InvalidTarget as problem:
        return _problem(request, problem.message, client=asked.client, back=_refusal_url(asked, problem))
    if request.method == "GET":
        return _ask(request, asked, target)
    if request.POST.get("decision") != "allow":
        error = {"error": "access_denied", "error_description": "The person did not allow it.", "state": asked.state}
        return _leave(request, answer_url(asked.redirect_uri, error), asked.client)
    return _leave(request, _allow(request, asked, target), asked.client)


def _read(request: HttpRequest) -> Asked:
    client_id = request.GET.get("client_id", "")
    try:
        client = learn_client(client_id)
    except AsterError as error:
        raise Hopeless(f"Aster could not find out what app this is. {error.message}") from None
    if client is None:
        raise Hopeless("Aster does not know this app: it was never registered here, or not used for a long time.")
    try:
        scopes, credentials = _core().validate_authorization_request(request)
    except FatalClientError as error:
        raise Hopeless(_words_of(error.oauthlib_error, request.GET.get("redirect_uri", ""))) from None
    except OAuthToolkitError as error:
        found: OAuth2Error = error.oauthlib_error
        raise Returned(found.redirect_uri, client, dict(found.twotuples)) from None
    except ValueError:  # an address that cannot be decoded
        raise Hopeless("The app's request cannot be read.") from None
    asked = Asked(client, credentials["redirect_uri"], credentials["state"] or "", scopes, credentials)
    if credentials.get("code_challenge_method") != "S256" or not _S256.fullmatch(credentials["code_challenge"]):
        plain = {"error": "invalid_request", "error_description": PLAIN, "state": asked.state}
        raise Returned(asked.redirect_uri, client, plain)
    return asked


def _core() -> OAuthLibCore:
    return _FromAddress()


def _words_of(error: OAuth2Error, redirect_uri: str) -> str:
    if "redirect" in type(error).__name__.lower():
        shown = redirect_uri[:200] or "no address"
        return f"The app wants its answer sent to {shown}, which is not an address it was registered with."
    return f"The app's request cannot be used: {error.description or error.error}."


def _allow(request: HttpRequest, asked: Asked, target: Target) -> str:
    offered = {offer.scope for offer in target.offers(asked.scopes)}
    chosen = sorted({CALL, *request.POST.getlist("grant")} & offered)
    credentials = {**asked.credentials, "resource": [target.endpoint.url], "claims": {"asked": asked.scopes}}
    with transaction.atomic():
        connected_apps.allow(target, asked.client, scopes=chosen, redirect_uri=asked.redirect_uri, actor=target.actor)
        url, *_rest = _core().create_authorization_response(request, chosen, credentials, True)
    return str(url)


def answer_url(redirect_uri: str, params: Mapping[str, str]) -> str:
    """The client's address with an answer, and with who gives it, in errors too (RFC 9207 §2)."""
    parts = urlsplit(redirect_uri)
    answer = urlencode({name: value for name, value in {**params, "iss": issuer()}.items() if value})
    return parts._replace(query="&".join(filter(None, (parts.query, answer)))).geturl()


def _refusal_url(asked: Asked, problem: InvalidTarget) -> str:
    error = {"error": problem.code, "error_description": _ascii(problem.message), "state": asked.state}
    return answer_url(asked.redirect_uri, error)


def _ascii(text: str) -> str:
    """What error_description may hold (RFC 6749 §4.1.2.1)."""
    plain = text.translate({0x201C: "'", 0x201D: "'", 0x2026: "..."})
    return "".join(char if " " <= char <= "~" and char not in '"\\' else "'" for char in plain)


# --- Pages ----------------------------------------------------------------------------------------------------------


def _ask(request: HttpRequest, asked: Asked, target: Target) -> HttpResponse:
    client = asked.client
    context = {
        "title": f"Let {client.name or 'an app'} in?",
        "client": client,
        "client_host": host_of_client(client),
        "redirect_host": redirects.host_of(asked.redirect_uri),
        "loopback": redirects.is_loopback(asked.redirect_uri),
        "custom": asked.redirect_uri in redirects.CUSTOM,
        "target": target,
        "organization": target.actor.organization,
        "person": target.actor.person,
        "offers": target.offers(asked.scopes),
    }
    return _private(render(request, "authorization/consent.html", context))


def _problem(
    request: HttpRequest, words: str, more: str = "", *, client: Application | None = None, back: str = ""
) -> HttpResponse:
    context = {"title": "This app cannot sign in", "words": words, "more": more, "client": client, "back": back}
    return _private(render(request, "authorization/problem.html", context, status=400))


def _leave(request: HttpRequest, url: str, client: Application | None) -> HttpResponse:
    """A page that goes on by itself: `form-action 'self'` also forbids redirects after a form (decision 0005)."""
    name = (client.name if client else "") or "the app"
    context = {"title": f"Back to {name}", "url": url, "name": name, "host": redirects.host_of(url)}
    response = _private(render(request, "authorization/leaving.html", context))
    response["Referrer-Policy"] = "no-referrer"
    return response


def _private(response: HttpResponse) -> HttpResponse:
    """Codes and the state of a sign-in are in these pages and their addresses.

    Not `no-referrer` where there is a form: a browser would send it with `Origin: null`, which nobody may answer.
    """
    response["Cache-Control"] = "no-store"
    return response
