"""FastMCP's client, in an environment of its own. It opens BROWSER and listens for the answer itself."""

# mypy: ignore-errors
import asyncio
import json
import os

from fastmcp import Client

URL, KEY = os.environ["ASTER_URL"], os.environ.get("ASTER_API_KEY")


async def main():
    async with Client(URL, auth=KEY or "oauth", mode=os.environ["MODE"]) as client:
        tools = [tool.name for tool in await client.list_tools()]
        name = next(tool for tool in tools if tool.endswith(os.environ["ASTER_TOOL"]))
        link = next(tool for tool in tools if tool.endswith(os.environ["ASTER_LINK_TOOL"]))
        result = await client.call_tool_mcp(name, json.loads(os.environ["ASTER_ARGUMENTS"]))
        refused = await client.call_tool_mcp(link, {})
    answers = {
        name: each.model_dump(mode="json", by_alias=True) for name, each in (("result", result), ("link", refused))
    }
    print(json.dumps({"tools": tools, **answers}))


asyncio.run(main())
