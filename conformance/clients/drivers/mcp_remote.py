"""mcp-remote, started as a desktop app starts it: a local command that speaks MCP over its standard streams."""

from __future__ import annotations

import asyncio
import json
import os
import sys

from mcp import Client, StdioServerParameters

URL, KEY = os.environ["ASTER_URL"], os.environ.get("ASTER_API_KEY")


async def main() -> None:
    # As the page "Use it" writes it: the key comes from the environment, without a space after the colon.
    header = ["--header", "Authorization:${AUTH_HEADER}"] if KEY else []
    env = {**os.environ, "AUTH_HEADER": f"Bearer {KEY}"} if KEY else dict(os.environ)
    command = [os.environ["MCP_REMOTE"], URL, "--protocol", os.environ["MODE"], "--transport", "http-only", *header]
    server = StdioServerParameters(command=os.environ["NODE"], args=command, env=env)
    async with Client(server, mode="legacy", read_timeout_seconds=40) as client:
        tools = [tool.name for tool in (await client.list_tools()).tools]
        name = next(tool for tool in tools if tool.endswith(os.environ["ASTER_TOOL"]))
        link = next(tool for tool in tools if tool.endswith(os.environ["ASTER_LINK_TOOL"]))
        result = await client.call_tool(name, json.loads(os.environ["ASTER_ARGUMENTS"]))
        refused = await client.call_tool(link, {})
    answers = {
        name: each.model_dump(mode="json", by_alias=True) for name, each in (("result", result), ("link", refused))
    }
    print(json.dumps({"tools": tools, **answers}))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
