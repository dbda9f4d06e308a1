"""Walk: the official client uses all that a server has through an agent, and answers what the server asks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anyio
import httpx2
import mcp_types as types
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from agents.models import Agent, ToolCall
from conformance.fixture import build_server
from integrations.models import McpServer
from tests.agents.gateway_wire import add_agent, add_server
from tests.conftest import Person
from tests.fakes.mcp_servers import FakeServer, serve

pytestmark = [pytest.mark.walk, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def server(alice: Person) -> Iterator[McpServer]:
    with serve(FakeServer(build_server().streamable_http_app(stateless_http=True))) as base:
        yield add_server(alice, "Everything", base)


@pytest.fixture
def agent(alice: Person, server: McpServer) -> Agent:
    return add_agent(alice, server)


def use(url: str, key: str, mode: str, do: Any) -> Any:
    """Do something as a client whose person fills in every form with a yes."""

    async def fill(ctx: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        assert params.message.startswith("Everything asks:")
        return types.ElicitResult(action="accept", content={"name": "Ada", "color": "blue"})

    async def run() -> Any:
        async with (
            httpx2.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=20) as http,
            Client(streamable_http_client(url, http_client=http), mode=mode, elicitation_callback=fill) as client,
        ):
            return await do(client)

    return anyio.run(run)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize("part", ["", "/everything"])
def test_prompts_resources_and_completion_in_both_eras_at_both_addresses(
    aster: str, agent: Agent, server: McpServer, bob: Person, mode: str, part: str
) -> None:
    prefix = "" if part else f"everything_{server.pk}__"

    async def do(client: Client) -> None:
        prompts = [prompt.name for prompt in (await client.list_prompts()).prompts]
        assert f"{prefix}test_simple_prompt" in prompts
        got = await client.get_prompt(f"{prefix}test_prompt_with_arguments", {"arg1": "a", "arg2": "b"})
        assert "arg1='a'" in got.messages[0].content.text  # type: ignore[union-attr]
        assert len((await client.list_resources()).resources) == 2
        assert len((await client.list_resource_templates()).resource_templates) == 1
        read = await client.read_resource("test://template/7/data")
        assert '"id":"7"' in read.contents[0].text  # type: ignore[union-attr]
        reference = types.PromptReference(type="ref/prompt", name=f"{prefix}test_prompt_with_arguments")
        suggested = await client.complete(reference, {"name": "arg1", "value": "pari"})
        assert suggested.completion.values == ["paris"]

    use(f"{agent.gateway_url}{part}", bob.key(), mode, do)


def test_a_call_of_three_rounds_ends_with_its_result(aster: str, agent: Agent, server: McpServer, bob: Person) -> None:
    async def do(client: Client) -> Any:
        return await client.call_tool(f"everything_{server.pk}__test_input_required_result_multi_round", {})

    assert use(agent.gateway_url, bob.key(), "auto", do).content[0].text == "Thank you."
    assert list(ToolCall.objects.order_by("pk").values_list("error_code", flat=True)) == [
        "input_required", "input_required", "",
    ]  # fmt: skip
    # A client of the older eras has the same callback, and cannot be asked: it reads what was wanted.
    told = use(agent.gateway_url, bob.key(), "legacy", do)
    assert told.is_error and "What is your name?" in told.content[0].text
