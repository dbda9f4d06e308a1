"""The authorization endpoint of the demo provider: who signs in, what they allow, and the way back to the client."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from aster.demo import oauth_checks as checks
from aster.demo.oauth_checks import OAuthError
from aster.demo.pages import SECURITY_HEADERS, render_consent_page, render_problem_page
from aster.demo.records import Client, Grant

if TYPE_CHECKING:
    from aster.demo.authorization_server import AuthorizationServer

LAST_PERSON_COOKIE = "acme_id_person"
KEPT_PARAMETERS = (
    "response_type",
    "client_id",
    "redirect_uri",
    "scope",
    "state",
    "code_challenge",
    "code_challenge_method",
    "resource",
)


class Consent:
    """GET shows the page; POST, which repeats the request's parameters, carries the person and the decision."""

    def __init__(self, server: AuthorizationServer) -> None:
        self.server = server

    async def endpoint(self, request: Request) -> Response:
        """Answer `/authorize`: a page, or a redirect to the client with a code or an error."""
        try:
            params = await checks.read_form(request) if request.method == "POST" else checks.read_query(request)
            if answer := self.server.scripted("authorize", params):
                return answer
            client = self._find_client(request, params)
        except OAuthError as error:
            # RFC 6749 section 4.1.2.1: while the client and its address are in doubt, the person is told, not sent on.
            return HTMLResponse(render_problem_page(error.description), error.status, headers=SECURITY_HEADERS)
        try:
            grant = self._requested_grant(client, params)
            if request.method == "POST":
                return self._decide(grant, client, params)
        except OAuthError as error:
            return self._redirect_back(params, error.as_dict())
        return self._show_page(grant, client, params, chosen=unquote(request.cookies.get(LAST_PERSON_COOKIE, "")))

    def _find_client(self, request: Request, params: Mapping[str, str]) -> Client:
        origin = request.headers.get("origin")
        if origin and origin != f"{request.url.scheme}://{request.url.netloc}":
            raise OAuthError("invalid_request", "This form was sent from another site.", status=403)
        client = self.server.ledger.clients.get(params.get("client_id", ""))
        if client is None:
            raise OAuthError("invalid_client", "The app that sent you here is not registered at this provider.")
        if not checks.matches_redirect(client.redirect_uris, params.get("redirect_uri", "")):
            raise OAuthError("invalid_request", "The app wants to be answered at an address it has not registered.")
        return client

    def _requested_grant(self, client: Client, params: Mapping[str, str]) -> Grant:
        """Return the grant asked for, its person still empty. Raises OAuthError, which goes back to the client."""
        if params.get("response_type") != "code":
            raise OAuthError("unsupported_response_type", "Only response_type=code is supported.")
        if "authorization_code" not in client.grant_types:
            raise OAuthError("unauthorized_client", "This client is not registered for authorization codes.")
        challenge = params.get("code_challenge", "")
        if self.server.pkce and not challenge:
            raise OAuthError("invalid_request", "PKCE is required: send a code_challenge.")
        # An absent method means "plain" (RFC 7636 section 4.3), which protects nothing here.
        if challenge and params.get("code_challenge_method") != "S256":
            raise OAuthError("invalid_request", "The code_challenge_method must be S256.")
        scopes = checks.chosen_scopes(params.get("scope", ""), self.server.scopes_for(client))
        return Grant("", client.client_id, scopes, self.server.checked_resource(params), secrets.token_hex(8))

    def _decide(self, grant: Grant, client: Client, params: Mapping[str, str]) -> Response:
        chosen = params.get("person", "")
        if params.get("decision") != "allow":
            return self._redirect_back(params, OAuthError("access_denied", "The person chose Deny.").as_dict())
        if chosen not in {person.name for person in self.server.people}:
            return self._show_page(grant, client, params, chosen="", problem="Choose who to sign in as.")
        signed = Grant(chosen, grant.client_id, grant.scopes, grant.resource, grant.family)
        code = self.server.ledger.issue_code(
            signed, redirect_uri=params["redirect_uri"], challenge=params.get("code_challenge", "")
        )
        response = self._redirect_back(params, {"code": code})
        response.set_cookie(LAST_PERSON_COOKIE, quote(chosen), max_age=31_536_000, httponly=True, samesite="lax")
        return response

    def _show_page(
        self, grant: Grant, client: Client, params: Mapping[str, str], *, chosen: str, problem: str = ""
    ) -> Response:
        names = [person.name for person in self.server.people]
        page = render_consent_page(
            client_name=client.name or client.client_id,
            returns_to=checks.host_of(params["redirect_uri"]),
            resource=grant.resource,
            people=self.server.people,
            chosen=chosen if chosen in names else names[0],
            permissions=[self.server.scopes[scope] for scope in grant.scopes],
            hidden={name: params[name] for name in KEPT_PARAMETERS if name in params},
            problem=problem,
        )
        return HTMLResponse(page, 400 if problem else 200, headers=SECURITY_HEADERS)

    def _redirect_back(self, params: Mapping[str, str], answer: Mapping[str, str]) -> Response:
        fields = dict(answer)
        if "state" in params:
            fields["state"] = params["state"]
        if self.server.advertise_iss:
            # RFC 9207 section 2: in errors too, so that the client knows whose answer it is.
            fields["iss"] = self.server.issuer
        location = checks.add_to_query(params["redirect_uri"], fields)
        return RedirectResponse(location, 303, headers={"Cache-Control": "no-store"})
