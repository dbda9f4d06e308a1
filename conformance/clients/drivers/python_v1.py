"""The official Python SDK, version 1, in an environment of its own."""

# mypy: ignore-errors
import asyncio
import json
import os
import subprocess
from urllib.parse import parse_qs, urlsplit

import httpx
from mcp import ClientSession
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientMetadata

URL, KEY = os.environ["ASTER_URL"], os.environ.get("ASTER_API_KEY")


class Storage:
    tokens = client = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client):
        self.client = client


def sign_in():
    sent_back = {}

    async def redirect(url):
        command = [os.environ["BROWSER"], "--print", url]
        said = await asyncio.to_thread(subprocess.run, command, check=True, stdout=subprocess.PIPE, text=True)
        sent_back.update(parse_qs(urlsplit(said.stdout.strip()).query))

    async def callback():
        return sent_back["code"][0], sent_back["state"][0]

    metadata = OAuthClientMetadata(client_name="Python SDK 1", redirect_uris=["http://localhost:3030/callback"])
    return OAuthClientProvider(URL, metadata, Storage(), redirect, callback)


async def main():
    kind = {"headers": {"Authorization": f"Bearer {KEY}"}} if KEY else {"auth": sign_in()}
    async with (
        httpx.AsyncClient(timeout=30, trust_env=False, **kind) as http,
        streamable_http_client(URL, http_client=http) as (read, write, _),
        ClientSession(read, write) as session,
    ):
        await session.initialize()
        tools = [tool.name for tool in (await session.list_tools()).tools]
        name = next(tool for tool in tools if tool.endswith(os.environ["ASTER_TOOL"]))
        link = next(tool for tool in tools if tool.endswith(os.environ["ASTER_LINK_TOOL"]))
        result = await session.call_tool(name, json.loads(os.environ["ASTER_ARGUMENTS"]))
        refused = await session.call_tool(link, {})
    answers = {
        name: each.model_dump(mode="json", by_alias=True) for name, each in (("result", result), ("link", refused))
    }
    print(json.dumps({"tools": tools, **answers}))


asyncio.run(main())
