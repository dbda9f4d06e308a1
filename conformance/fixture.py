"""The server behind the gateway for the suite's server scenarios: what they name, built with the SDK.

Everything is sent as the scenarios spell it out; nothing here knows Aster, but for one tool: what changes the list of
tools has Aster list them again, as its scheduled refresh would.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio
import httpx2
import mcp_types as types
import uvicorn
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.shared.exceptions import MCPError

Context = ServerRequestContext[Any]
Wire = dict[str, Any]
SLUG = "fixture"
# The smallest PNG and a WAV without a sample
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
WAV = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA="
NOTHING: Wire = {"type": "object", "properties": {}}
SCHEMA_2020_12: Wire = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


def text(words: str) -> Wire:
    return {"type": "text", "text": words}


def form(message: str, **properties: str) -> Wire:
    fields = {name: {"type": kind} for name, kind in properties.items()}
    schema = {"type": "object", "properties": fields, "required": list(fields)}
    return {"method": "elicitation/create", "params": {"message": message, "requestedSchema": schema}}


def ask(state: str | None = None, /, **asks: Wire) -> Wire:
    found: Wire = {"resultType": "input_required", "inputRequests": asks}
    return found if state is None else {**found, "requestState": state}


def said(params: types.InputResponseRequestParams, key: str) -> Mapping[str, Any] | None:
    """What was answered to the question `key`, if it was accepted."""
    answer = (params.input_responses or {}).get(key)
    return (answer.content or {}) if isinstance(answer, types.ElicitResult) and answer.action == "accept" else None


IMAGE = {"type": "image", "data": PNG, "mimeType": "image/png"}
RESOURCE = {
    "uri": "test://embedded-resource",
    "mimeType": "text/plain",
    "text": "This is an embedded resource content.",
}
MIXED = {"uri": "test://mixed-content-resource", "mimeType": "application/json", "text": '{"test":"data","value":123}'}
SAMPLING = {
    "method": "sampling/createMessage",
    "params": {
        "messages": [{"role": "user", "content": text("What is the capital of France?")}],
        "maxTokens": 100,
    },
}
ROOTS: Wire = {"method": "roots/list", "params": {}}
CONTENT: dict[str, list[Wire]] = {
    "test_simple_text": [text("This is a simple text response for testing.")],
    "test_image_content": [IMAGE],
    "test_audio_content": [{"type": "audio", "data": WAV, "mimeType": "audio/wav"}],
    "test_embedded_resource": [{"type": "resource", "resource": RESOURCE}],
    "test_multiple_content_types": [
        text("Multiple content types test:"), IMAGE, {"type": "resource", "resource": MIXED},
    ],
    "test_logging_tool": [text("Nothing was logged.")],
    "json_schema_2020_12_tool": [text("ok")],
}  # fmt: skip
# Their answers depend on the round, or on what the client can do.
OTHERS = (
    *("test_error_handling", "test_tool_with_progress", "test_streaming_elicitation", "test_missing_capability"),
    *("test_trigger_tool_change", "test_input_required_result_elicitation", "test_input_required_result_sampling"),
    *("test_input_required_result_list_roots", "test_input_required_result_request_state"),
    *("test_input_required_result_multiple_inputs", "test_input_required_result_multi_round"),
    *("test_input_required_result_tampered_state", "test_input_required_result_capabilities"),
    # Of revisions in which a server asks by a request of its own; this one asks in rounds.
    *("test_sampling", "test_elicitation", "test_elicitation_sep1034_defaults", "test_elicitation_sep1330_enums"),
)
changes: list[str] = []


async def list_tools(ctx: Context, params: types.PaginatedRequestParams) -> Wire:
    schemas = {"json_schema_2020_12_tool": SCHEMA_2020_12}
    names = [*CONTENT, *OTHERS, *changes]
    tools = [
        {"name": name, "description": f"The suite's {name}", "inputSchema": schemas.get(name, NOTHING)}
        for name in names
    ]
    return {"tools": tools, "ttlMs": 0, "cacheScope": "private"}


async def call_tool(ctx: Context, params: types.CallToolRequestParams) -> Wire:
    if params.name in CONTENT:
        return {"content": CONTENT[params.name]}
    match params.name:
        case "test_error_handling":
            return {"isError": True, "content": [text("This tool intentionally returns an error for testing")]}
        case "test_tool_with_progress":
            for done in (0, 50, 100):
                await ctx.session.report_progress(done, 100)
                await anyio.sleep(0.05)
            return {"content": [text("Done.")]}
        case "test_missing_capability":
            data: Wire = {"requiredCapabilities": {"sampling": {}}}
            raise MCPError(types.MISSING_REQUIRED_CLIENT_CAPABILITY, "Sampling is needed for this.", data)
        case "test_trigger_tool_change":
            return await change_tools()
        case "test_sampling":
            return ask(answer=SAMPLING)
        case name if name.startswith("test_elicitation"):
            return ask(answer=form("What is it?", answer="string"))
        case name if name.startswith(("test_input_required_result_", "test_streaming_elicitation")):
            return await in_rounds(ctx, params)
    raise MCPError(types.INVALID_PARAMS, f"There is no tool {params.name}.")


async def in_rounds(ctx: Context, params: types.CallToolRequestParams) -> Wire:
    name, done = params.name.removeprefix("test_input_required_result_"), {"content": [text("Thank you.")]}
    match name:
        case "elicitation" | "test_streaming_elicitation":
            answer = said(params, "user_name")
            hello = {"content": [text(f"Hello, {(answer or {}).get('name')}!")]}
            return ask(user_name=form("What is your name?", name="string")) if answer is None else hello
        case "sampling":
            return done if params.input_responses else ask(capital_question=SAMPLING)
        case "list_roots":
            return done if params.input_responses else ask(client_roots=ROOTS)
        case "request_state" | "tampered_state":
            if params.request_state == f"the state of {name}" and said(params, "confirm"):
                return {"content": [text("state-ok")]}
            return ask(f"the state of {name}", confirm=form("Please confirm", ok="boolean"))
        case "multiple_inputs":
            asks = {"user_name": form("What is your name?", name="string"), "greeting": SAMPLING, "client_roots": ROOTS}
            return done if params.input_responses else ask("all of them", **asks)
        case "capabilities":
            capabilities = ctx.session.client_capabilities
            can_sample, can_ask = (
                bool(capabilities and each is not None)
                for each in (capabilities and capabilities.sampling, capabilities and capabilities.elicitation)
            )
            asks = {"capital_question": SAMPLING} if can_sample else {}
            asks |= {"user_name": form("What is your name?", name="string")} if can_ask else {}
            return ask(**asks) if asks else done
        case _:  # multi_round
            if params.request_state == "round 2" and said(params, "step2"):
                return done
            if params.request_state == "round 1" and said(params, "step1"):
                return ask("round 2", step2=form("Step 2: What is your favorite color?", color="string"))
            return ask("round 1", step1=form("Step 1: What is your name?", name="string"))


async def change_tools() -> Wire:
    changes.append(f"test_appeared_{len(changes)}")
    headers = {"Authorization": f"Bearer {os.environ['ASTER_API_KEY']}"}
    async with httpx2.AsyncClient(base_url=os.environ["ASTER_API"], headers=headers) as http:
        answer = await http.post(f"config/mcp-server/{os.environ['ASTER_FIXTURE_ID']}/tools/refresh")
    return {"content": [text(f"Changed: {answer.status_code}")]}


# --- Prompts and resources ------------------------------------------------------------------------------------------

ARGUMENTS = {
    "test_simple_prompt": (),
    "test_prompt_with_arguments": ("arg1", "arg2"),
    "test_prompt_with_embedded_resource": ("resourceUri",),
    "test_prompt_with_image": (),
    "test_input_required_result_prompt": (),
}
RESOURCES = {
    "test://static-text": {"mimeType": "text/plain", "text": "This is the content of the static text resource."},
    "test://static-binary": {"mimeType": "image/png", "blob": PNG},
}


async def list_prompts(ctx: Context, params: types.PaginatedRequestParams) -> Wire:
    prompts = [
        {
            "name": name,
            "description": f"The suite's {name}",
            "arguments": [{"name": argument, "description": argument, "required": True} for argument in arguments],
        }
        for name, arguments in ARGUMENTS.items()
    ]
    return {"prompts": prompts, "ttlMs": 0, "cacheScope": "private"}


async def get_prompt(ctx: Context, params: types.GetPromptRequestParams) -> Wire:
    given = params.arguments or {}
    contents: list[Wire]
    match params.name:
        case "test_simple_prompt":
            contents = [text("This is a simple prompt for testing.")]
        case "test_prompt_with_arguments":
            contents = [text(f"Prompt with arguments: arg1='{given.get('arg1')}', arg2='{given.get('arg2')}'")]
        case "test_prompt_with_embedded_resource":
            words = "Embedded resource content for testing."
            resource = {"uri": given.get("resourceUri"), "mimeType": "text/plain", "text": words}
            contents = [{"type": "resource", "resource": resource}, text("Please process the embedded resource above.")]
        case "test_prompt_with_image":
            contents = [IMAGE, text("Please analyze the image above.")]
        case "test_input_required_result_prompt":
            answer = said(params, "user_context")
            if answer is None:
                return ask(user_context=form("What context should the prompt use?", context="string"))
            contents = [text(f"In the context of {answer.get('context')}.")]
        case _:
            raise MCPError(types.INVALID_PARAMS, f"There is no prompt {params.name}.")
    return {"messages": [{"role": "user", "content": content} for content in contents]}


async def list_resources(ctx: Context, params: types.PaginatedRequestParams) -> Wire:
    resources = [
        {"uri": uri, "name": uri, "description": f"The suite's {uri}", "mimeType": content["mimeType"]}
        for uri, content in RESOURCES.items()
    ]
    return {"resources": resources, "ttlMs": 0, "cacheScope": "private"}


async def list_templates(ctx: Context, params: types.PaginatedRequestParams) -> Wire:
    template = {"uriTemplate": "test://template/{id}/data", "name": "template", "mimeType": "application/json"}
    return {"resourceTemplates": [template], "ttlMs": 0, "cacheScope": "private"}


async def read_resource(ctx: Context, params: types.ReadResourceRequestParams) -> Wire:
    uri = str(params.uri)
    begins, ends = "test://template/", "/data"
    if uri in RESOURCES:
        content = RESOURCES[uri]
    elif uri.startswith(begins) and uri.endswith(ends):
        found = uri.removeprefix(begins).removesuffix(ends)
        words = f'{{"id":"{found}","templateTest":true,"data":"Data for ID: {found}"}}'
        content = {"mimeType": "application/json", "text": words}
    else:
        raise MCPError(types.INVALID_PARAMS, "Resource not found", {"uri": uri})
    return {"contents": [{"uri": uri, **content}], "ttlMs": 0, "cacheScope": "private"}


async def complete(ctx: Context, params: types.CompleteRequestParams) -> Wire:
    known = ["paris", "park", "party"]
    values = [each for each in known if each.startswith(params.argument.value)]
    return {"completion": {"values": values, "total": len(values), "hasMore": False}}


def complete_result(handler: Callable[[Context, Any], Awaitable[Wire]]) -> Callable[[Context, Any], Awaitable[Wire]]:
    async def handle(ctx: Context, params: Any) -> Wire:
        return {"resultType": "complete", **await handler(ctx, params)}

    return handle


def build_server() -> Server[Any]:
    server: Server[Any] = Server("conformance-fixture", version="1")
    page = types.PaginatedRequestParams
    for method, shape, handler in (
        ("tools/list", page, list_tools),
        ("tools/call", types.CallToolRequestParams, call_tool),
        ("prompts/list", page, list_prompts),
        ("prompts/get", types.GetPromptRequestParams, get_prompt),
        ("resources/list", page, list_resources),
        ("resources/templates/list", page, list_templates),
        ("resources/read", types.ReadResourceRequestParams, read_resource),
        ("completion/complete", types.CompleteRequestParams, complete),
    ):
        server.add_request_handler(method, shape, complete_result(handler))
    return server


if __name__ == "__main__":
    app = build_server().streamable_http_app(stateless_http=True)
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
