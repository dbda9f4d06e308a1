"""Whole programs for the page “Use it”: each lists the tools of a gateway URL. `make clients` runs them as they are."""

from __future__ import annotations

# mcp 2: https://py.sdk.modelcontextprotocol.io, headers belong to the HTTP client.
PYTHON_KEY = """\
import asyncio
import os

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

URL = {url}


async def main() -> None:
    headers = {{"Authorization": f"Bearer {{os.environ['ASTER_API_KEY']}}"}}
    async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
        async with Client(streamable_http_client(URL, http_client=http)) as client:
            for tool in (await client.list_tools()).tools:
                print(tool.name)


asyncio.run(main())
"""

# https://gofastmcp.com/clients/auth/oauth
FASTMCP_OAUTH = """\
import asyncio

from fastmcp import Client

URL = {url}


async def main() -> None:
    async with Client(URL, auth="oauth") as client:
        for tool in await client.list_tools():
            print(tool.name)


asyncio.run(main())
"""

# @modelcontextprotocol/client 2: https://ts.sdk.modelcontextprotocol.io/v2/clients/connect
TYPESCRIPT_KEY = """\
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const headers = { Authorization: `Bearer ${process.env.ASTER_API_KEY}` };
const transport = new StreamableHTTPClientTransport(new URL({url}), { requestInit: { headers } });
const client = new Client(
  { name: "my-program", version: "1.0.0" },
  { versionNegotiation: { mode: "auto" } },
);

await client.connect(transport);
for (const tool of (await client.listTools()).tools) {
  console.log(tool.name);
}
await client.close();
"""
