"""One conformance scenario, done with Aster: the command that the suite starts with a server's URL.

It plays an admin's script and the person who signs in, through the public API alone: add the server, connect, list its
tools, call them. It follows every sign-in Aster offers and invents none, so what reaches the suite's fake servers is
Aster's doing. Each step is a line on stdout; the last says whether Aster went through with it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

import httpx2

# More than any client may need: Aster is the one to stop asking (auth/scope-retry-limit counts).
MOST_SIGN_INS = 6
FINISHED, REFUSED = "finished", "refused"
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"


class Refused(Exception):
    """Aster, or the provider it sent the person to, said no."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class Script:
    def __init__(self, http: httpx2.Client) -> None:
        self._http = http
        self._sign_ins = 0

    def add_server(self, url: str, auth: Mapping[str, Any]) -> int:
        body = {"name": "Conformance", "url": url, "timeout_seconds": 10, "auth_config": auth}
        server = self._ask("POST", "config/mcp-server", body)
        return int(server["id"])

    def add_company_sign_in(self, context: Mapping[str, Any]) -> int:
        """The sign-in of the company, whose ID tokens vouch for people (ID-JAG)."""
        body = {
            "name": "Company",
            "auth_type": "AUTHORIZATION_CODE",
            "client_id": context["idp_client_id"],
            "issuer": context["idp_issuer"],
            "token_url": context["idp_token_endpoint"],
        }
        return int(self._ask("POST", "auth_configs", body)["id"])

    def connect(self, server: int, context: Mapping[str, Any]) -> None:
        body = {"subject_token": context["idp_id_token"], "subject_token_type": ID_TOKEN} if is_vouched(context) else {}
        begun = self._ask("POST", f"config/mcp-server/{server}/connect", body)
        if begun["authorization_url"]:
            self._sign_in(begun["authorization_url"])

    def list_tools(self, server: int) -> list[dict[str, Any]]:
        found = self._ask("POST", f"config/mcp-server/{server}/tools/refresh")
        return list(found["results"])

    def call(self, server: int, name: str, arguments: Mapping[str, Any]) -> None:
        try:
            self._ask("POST", f"config/mcp-server/{server}/tools/call", {"name": name, "arguments": arguments})
        except Refused as refused:
            # The tool's own no is an answer like another: json-schema-ref-no-deref lists a tool that cannot be called.
            if refused.code != "tool_call_failed":
                raise

    def remove(self, server: int) -> None:
        """Leave nothing behind that could disturb the next scenario."""
        self._http.post(f"config/mcp-server/{server}/disconnect")
        self._http.delete(f"config/mcp-server/{server}")

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """One request; where Aster wants the person to sign in first, they do, and it is sent again."""
        answer = self._http.request(method, path, json=body)
        said: dict[str, Any] = answer.json()
        print(f"{method} {path} {answer.status_code} {said.get('code', '')}".rstrip())
        if answer.is_success:
            return said
        if said.get("authorization_url"):
            self._sign_in(said["authorization_url"])
            return self._ask(method, path, body)
        raise Refused(f"{said['code']}: {said['detail']}", said["code"])

    def _sign_in(self, authorization_url: str) -> None:
        """The person consents at once: the fake provider redirects straight back to Aster with a code."""
        self._sign_ins += 1
        if self._sign_ins > MOST_SIGN_INS:
            raise Refused(f"Aster wants a sign-in for the {self._sign_ins}th time.")
        back = httpx2.get(authorization_url, follow_redirects=False).headers.get("location", "")
        callback = str(self._http.base_url.join("/api/mcp/oauth/callback"))
        if not back.startswith(f"{callback}?"):
            raise Refused(f"The provider did not send the person back to {callback}.")
        answer = self._http.get(back)
        print(f"sign-in {answer.status_code}")
        if not answer.is_success:
            raise Refused(f"{answer.json()['code']}: {answer.json()['detail']}")


def auth_config(scenario: str, context: Mapping[str, Any]) -> dict[str, Any]:
    """What an admin enters: nothing, or that people sign in, or the client that the scenario says was made for them."""
    if not scenario.startswith("auth/"):
        return {}
    entered = {
        "client_id": "client_id",
        "client_secret": "client_secret",
        "issuer": "issuer",
        "private_key_pem": "client_private_key",
    }
    named: dict[str, Any] = {field: context[name] for name, field in entered.items() if name in context}
    if "client_private_key" in named:
        named["token_endpoint_auth_method"] = "private_key_jwt"
    if scenario.startswith("auth/2025-03-26-"):
        named["allow_legacy_endpoints"] = True
    if scenario.startswith("auth/client-credentials-"):
        return {"auth_type": "CLIENT_CREDENTIALS", **named}
    return {"auth_type": "ID_JAG" if is_vouched(context) else "AUTHORIZATION_CODE", **named}


def is_vouched(context: Mapping[str, Any]) -> bool:
    return "idp_id_token" in context


def calls_of(tools: list[dict[str, Any]], context: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The calls a scenario dictates, otherwise each tool once."""
    dictated = [(call["name"], call["arguments"]) for call in context.get("toolCalls", [])]
    return dictated or [(tool["name"], example_arguments(tool, tools)) for tool in tools]


def example_arguments(tool: Mapping[str, Any], tools: list[dict[str, Any]]) -> dict[str, Any]:
    if tool["name"] == "json_schema_echo":
        # It wants back, word by word, the schema under which the other tool was listed.
        return {"schema": next(other["inputSchema"] for other in tools if other is not tool)}
    values = {"number": 2, "integer": 2, "string": "x", "boolean": True, "object": {}, "array": []}
    schema = tool["inputSchema"]
    wanted = schema.get("required", [])
    return {name: values.get(schema["properties"][name].get("type"), "x") for name in wanted}


def play(script: Script, url: str, scenario: str, context: Mapping[str, Any]) -> None:
    auth = auth_config(scenario, context)
    if is_vouched(context):
        auth["subject_config_id"] = script.add_company_sign_in(context)
    server = script.add_server(url, auth)
    try:
        if scenario.startswith("auth/"):
            script.connect(server, context)
        for name, arguments in calls_of(script.list_tools(server), context):
            script.call(server, name, arguments)
    finally:
        script.remove(server)


def main() -> int:
    scenario = os.environ["MCP_CONFORMANCE_SCENARIO"]
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
    headers = {"Authorization": f"Bearer {os.environ['ASTER_API_KEY']}"}
    with httpx2.Client(base_url=os.environ["ASTER_API"], headers=headers, timeout=40) as http:
        try:
            play(Script(http), sys.argv[-1], scenario, context)
        except Refused as refused:
            print(f"{REFUSED}: {refused}")
            return 1
    print(FINISHED)
    return 0


if __name__ == "__main__":
    sys.exit(main())
