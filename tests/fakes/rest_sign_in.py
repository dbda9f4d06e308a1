"""A sign-in in front of a REST provider, as Slack, Notion and GitHub document theirs: each says it in its own way.

Slack: https://docs.slack.dev/authentication/installing-with-oauth · Notion:
https://developers.notion.com/docs/authorization · GitHub:
https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route

from tests.fakes.rest_providers import RestProvider

CLIENT_ID, CLIENT_SECRET = "1234.5678", "s3cret-of-the-app"
PAGE = "<title>{0}</title><h1>{0}</h1><p>Aster asks: {1}</p><form method=post><button>Allow</button></form>"


class SignIn:
    """People of one provider: who consents gets a token that its API knows. `issued` and `revoked` are in order."""

    def __init__(self, name: str, api: RestProvider, answer: Callable[[str], dict[str, Any]], *, basic: bool) -> None:
        self.name, self._api, self._answer, self._basic = name, api, answer, basic
        self._codes: dict[str, str] = {}
        self.issued: list[str] = []
        self.revoked: list[str] = []
        self.app = Starlette(
            routes=[
                Route("/authorize", self._consent, methods=["GET", "POST"]),
                Route("/token", self._token, methods=["POST"]),
                Route("/revoke", self._revoke, methods=["POST"]),
                Route(f"/applications/{CLIENT_ID}/token", self._delete_token, methods=["DELETE"]),
                Mount("/", api),
            ]
        )
        api.tokens.clear()

    async def _consent(self, request: Request) -> Response:
        asked = request.query_params
        if asked.get("client_id") != CLIENT_ID or asked.get("response_type") != "code":
            return HTMLResponse("<h1>No such app</h1>", 400)
        if request.method == "GET":
            return HTMLResponse(PAGE.format(self.name, asked.get("scope", "what you choose")))
        code = secrets.token_hex(8)
        self._codes[code] = asked["redirect_uri"]
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}", 303)

    async def _token(self, request: Request) -> Response:
        form = await request.form()
        if not self._knows(request, {name: str(value) for name, value in form.items()}):
            return JSONResponse({"error": "invalid_client"}, 401)
        if self._codes.pop(str(form.get("code")), "") != form.get("redirect_uri"):
            return JSONResponse({"error": "invalid_grant"}, 400)
        token = f"token-{len(self.issued) + 1}-{secrets.token_hex(4)}"
        self.issued.append(token)
        self._api.tokens.add(token)
        return JSONResponse(self._answer(token))

    async def _revoke(self, request: Request) -> Response:
        form = await request.form()
        return self._end(str(form["token"]), JSONResponse({"ok": True, "revoked": True}))

    async def _delete_token(self, request: Request) -> Response:
        if not self._knows(request, {}):
            return JSONResponse({"message": "Not Found"}, 404)
        return self._end(json.loads(await request.body())["access_token"], Response(status_code=204))

    def _end(self, token: str, answer: Response) -> Response:
        self._api.tokens.discard(token)
        self.revoked.append(token)
        return answer

    def _knows(self, request: Request, form: dict[str, str]) -> bool:
        """Whether the app proved who it is: Notion and GitHub's API take nothing but Basic."""
        pair = f"{form.get('client_id')}:{form.get('client_secret')}"
        if self._basic or not form:
            pair = base64.b64decode(request.headers.get("authorization", "Basic ").split(" ")[1]).decode()
        return pair == f"{CLIENT_ID}:{CLIENT_SECRET}"


def slack_sign_in(api: RestProvider) -> SignIn:
    about = {"ok": True, "token_type": "user", "scope": "channels:read,chat:write,search:read", "user_id": "U1234"}
    return SignIn("Slack", api, lambda token: {**about, "access_token": token}, basic=False)


def notion_sign_in(api: RestProvider) -> SignIn:
    about = {"token_type": "bearer", "bot_id": "b1", "workspace_id": "w1", "workspace_name": "Kale", "owner": {}}
    return SignIn("Notion", api, lambda token: {**about, "access_token": token}, basic=True)


def github_sign_in(api: RestProvider) -> SignIn:
    about = {"token_type": "bearer", "scope": "repo"}
    return SignIn("GitHub", api, lambda token: {**about, "access_token": token}, basic=False)
