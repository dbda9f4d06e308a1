"""The official Python SDK, version 2, as Aster itself has it. MODE is the Client's mode."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from urllib.parse import parse_qs, urlsplit

import httpx2
from mcp import Client
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from pydantic import AnyUrl

URL, KEY = os.environ["ASTER_URL"], os.environ.get("ASTER_API_KEY")


class Storage:
    tokens: OAuthToken | None = None
    client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


def sign_in() -> OAuthClientProvider:
    sent_back: dict[str, list[str]] = {}

    async def redirect(url: str) -> None:
        command = [os.environ["BROWSER"], "--print", url]
        said = await asyncio.to_thread(subprocess.run, command, check=True, stdout=subprocess.PIPE, text=True)
        sent_back.update(parse_qs(urlsplit(said.stdout.strip()).query))

    async def callback() -> AuthorizationCodeResult:
        return AuthorizationCodeResult(
            **{name: sent_back[name][0] for name in ("code", "state", "iss") if name in sent_back}
        )

    metadata = OAuthClientMetadata(client_name="Python SDK 2", redirect_uris=[AnyUrl("http://localhost:3031/callback")])
    return OAuthClientProvider(URL, metadata, Storage(), redirect, callback)


async def main() -> None:
    headers = {"Authorization": f"Bearer {KEY}"} if KEY else {}
    auth = None if KEY else sign_in()
    async with (
        httpx2.AsyncClient(timeout=30, trust_env=False, headers=headers, auth=auth) as http,
        Client(streamable_http_client(URL, http_client=http), mode=os.environ["MODE"]) as client,
    ):
        tools = [tool.name for tool in (await client.list_tools()).tools]
        name = next(tool for tool in tools if tool.endswith(os.environ["ASTER_TOOL"]))
        link = next(tool for tool in tools if tool.endswith(os.environ["ASTER_LINK_TOOL"]))
        result = await client.call_tool(name, json.loads(os.environ["ASTER_ARGUMENTS"]))
        refused = await client.call_tool(link, {})
    answers = {
        name: each.model_dump(mode="json", by_alias=True) for name, each in (("result", result), ("link", refused))
    }
    print(json.dumps({"tools": tools, **answers}))


asyncio.run(main())
