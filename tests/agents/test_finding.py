"""An agent with more tools than a model can be shown: the model looks for them, and what it finds is offered."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.utils import timezone

from agents.models import Agent, ToolCall
from agents.runtime.finding import FIND_TOOLS, MOST_FOUND, MOST_OFFERED, Finding
from agents.runtime.naming import name_tools, server_prefix
from agents.services.agents import switch_tools
from agents.services.calls import AgentTool, agent_tools
from agents.services.tool_budget import MOST_TOKENS, MOST_TOOLS, must_be_searched
from aster.accounts.access import CALL, Actor
from integrations.models import AuthConfig, AuthType, McpServer, Tool
from tests.agents.chatting import rows, stage
from tests.conftest import Person
from tests.fakes.llm import Answer, AskedModel, FakeModel

pytestmark = pytest.mark.django_db(transaction=True)

MANY = MOST_TOOLS + 20


def look(query: str, **more: Any) -> Answer:
    return Answer(calls=[(FIND_TOOLS, {"query": query, **more})])


def offered(asked: AskedModel) -> list[str]:
    """The names of the tools that the model was offered, in either protocol."""
    return [tool.get("name") or tool["function"]["name"] for tool in asked.body.get("tools", [])]


def shelf(*tools: Tool, server: McpServer | None = None) -> Finding:
    server = server or McpServer(pk=1, name="Crm", slug="crm")
    return Finding({f"crm_1__{tool.name}": AgentTool(f"crm_1__{tool.name}", server, tool) for tool in tools})


def a_tool(name: str, description: str = "", **more: Any) -> Tool:
    return Tool(name=name, definition={"name": name, "description": description, **more})


def found(answer: str) -> list[str]:
    """The servers' own names of the tools that an answer of the search names, best first."""
    return [json.loads(line)["name"].partition("__")[2] for line in answer.splitlines() if line.startswith("{")]


# --- A turn -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["openai", "anthropic"])
def test_a_model_looks_for_a_tool_and_calls_it(alice: Person, protocol: str) -> None:
    model = FakeModel()
    with stage(alice, model, protocol, more_tools=MANY) as chat:
        wanted = chat.name("get_row_77")
        model.script = [look("row 77"), Answer(calls=[(wanted, {})]), Answer("Row 77 it is.")]
        conversation = chat.say("What is in row 77?")
    first, second, third = model.asked
    assert offered(first) == [FIND_TOOLS]
    assert offered(second)[:2] == [FIND_TOOLS, offered(second)[1]] and wanted in offered(second)
    assert wanted in offered(third)
    assert "too many to be shown at once" in json.dumps(first.body)
    looked, called = chat.told("result")
    assert (looked["outcome"], found(looked["text"])[0]) == ("ok", "get_row_77")
    assert called["text"] == "this is get_row_77"
    assert (chat.end["state"], rows(conversation)[-1].text) == ("complete", "Row 77 it is.")
    # The search is Aster's own: no server was asked, and there is no record of a call.
    assert chat.server.calls() == ["get_row_77"]
    assert [call.tool_name for call in ToolCall.objects.all()] == ["get_row_77"]
    assert chat.told("call")[0]["title"] == "Look for tools"


def test_an_agent_with_few_tools_offers_them_all_and_no_search(alice: Person) -> None:
    with stage(alice, FakeModel(Answer("Hi."))) as chat:
        chat.say()
        assert offered(chat.model.asked[0]) == [each.name for each in agent_tools(chat.agent)]
    assert FIND_TOOLS not in json.dumps(chat.model.asked[0].body)


def test_a_tool_that_was_not_looked_for_can_be_called_and_is_offered_then(alice: Person) -> None:
    model = FakeModel()
    with stage(alice, model, more_tools=MANY) as chat:
        guessed = chat.name("get_row_3")
        model.script = [Answer(calls=[(guessed, {})]), Answer("Done.")]
        chat.say()
    assert chat.told("result")[0]["outcome"] == "ok"
    assert offered(model.asked[1]) == [FIND_TOOLS, guessed]


def test_what_was_used_stays_offered_in_later_turns(alice: Person) -> None:
    model = FakeModel()
    with stage(alice, model, more_tools=MANY) as chat:
        used = chat.name("get_row_5")
        model.script = [look("row 5"), Answer(calls=[(used, {})]), Answer("Five.")]
        conversation = chat.say("Row 5?")
        model.script = [Answer("Again five.")]
        chat.say("And again?", conversation)
    assert offered(model.asked[-1]) == [FIND_TOOLS, used]


def test_a_search_that_finds_nothing_says_what_to_do(alice: Person) -> None:
    model = FakeModel(look("zyx quux"), look("row", server="Nowhere"), Answer("I cannot."))
    with stage(alice, model, more_tools=MANY) as chat:
        chat.say()
    nothing, nowhere = (result["text"] for result in chat.told("result"))
    assert "No tool fits “zyx quux”. Try fewer or other words" in nothing and "Your tools come from Fake (" in nothing
    assert "at a server called “Nowhere”" in nowhere and "leave the server out" in nowhere
    assert offered(model.asked[1]) == offered(model.asked[2]) == [FIND_TOOLS]


@pytest.mark.parametrize(
    "arguments", ["no json", {}, {"query": ""}, {"query": 5}, {"query": "x" * 501}, {"query": "x", "server": 1}]
)
def test_a_search_that_makes_no_sense_is_told_so(alice: Person, arguments: Any) -> None:
    with stage(alice, FakeModel(Answer(calls=[(FIND_TOOLS, arguments)]), Answer("Oh.")), more_tools=MANY) as chat:
        chat.say()
    (result,) = chat.told("result")
    assert (result["outcome"], result["code"]) == ("refused", "invalid_arguments")
    assert chat.end["state"] == "complete"


def test_the_same_search_again_and_again_is_refused(alice: Person) -> None:
    again = look("row 5")
    with stage(alice, FakeModel(again, again, again, again, Answer("Enough.")), more_tools=MANY) as chat:
        chat.say()
    assert [result["code"] for result in chat.told("result")] == ["", "", "", "repeated_call"]


# --- Rights -----------------------------------------------------------------------------------------------------------


def test_only_what_the_caller_is_offered_can_be_found(alice: Person) -> None:
    with stage(alice, FakeModel(Answer("x")), more_tools=MANY) as chat:
        server = McpServer.objects.get()
        switch_tools(chat.agent, server, off=["get_row_1"], actor=alice.actor)
        server.tools.filter(name="get_row_2").update(
            changed_definition={"name": "get_row_2"}, changed_at=timezone.now()
        )
        server.tools.filter(name="get_row_3").update(gone_at=timezone.now())
        McpServer.objects.update(tool_scopes={"get_row_4": ["ledger:read"]})
        agent = Agent.objects.get()
        narrow = Actor(alice.organization, alice.user, alice.role, scopes=frozenset((CALL,)))
        for actor, hidden in ((alice.actor, {"1", "2", "3"}), (narrow, {"1", "2", "3", "4"})):
            finding = Finding({each.name: each for each in agent_tools(agent, actor=actor)})
            for row in range(1, 6):
                names = found(finding.find(f"get_row_{row}"))
                assert (f"get_row_{row}" in names) == (str(row) not in hidden)


def test_a_server_nobody_has_connected_is_found_as_its_link(alice: Person) -> None:
    auth = AuthConfig.objects.create(organization=alice.organization, name="ID", auth_type=AuthType.AUTHORIZATION_CODE)
    wiki = McpServer(pk=9, name="Wiki", slug="wiki", auth_config=auth)
    finding = Finding({"wiki_9__connect_account": AgentTool("wiki_9__connect_account", wiki, None)})
    assert found(finding.find("search the wiki")) == ["connect_account"]


# --- The ranking ------------------------------------------------------------------------------------------------------


def test_words_in_names_count_more_than_in_titles_and_descriptions() -> None:
    tools = [
        a_tool("one", "Makes an invoice"),
        a_tool("two", title="Invoice"),
        a_tool("three"),
        a_tool("createInvoices"),
        a_tool("create_invoice"),
        a_tool("four", "An invoice"),
    ]
    assert found(shelf(*tools).find("an INVOICE")) == ["create_invoice", "createInvoices", "two", "one", "four"]
    assert found(shelf(*tools).find("create invoices"))[:2] == ["createInvoices", "create_invoice"]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("发票", ["a"]),
        ("Übersicht", ["b"]),
        ("the tool for a", []),
        ("...", []),
        ("re port", ["c"]),
        ("\x00 q1", ["c"]),
    ],
)
def test_queries_in_any_script_find_what_has_their_words(query: str, names: list[str]) -> None:
    tools = (a_tool("a", "创建发票"), a_tool("b", "Die übersicht"), a_tool("c", "A report of Q1"))
    assert found(shelf(*tools).find(query)) == names


def test_at_most_ten_are_named_and_forty_kept_at_hand() -> None:
    tools = [a_tool(f"get_{letter}{n}", "reads") for letter in "abcdefgh" for n in range(12)]
    finding = shelf(*tools)
    answer = finding.find("get")
    assert found(answer) == [tool.name for tool in tools[:MOST_FOUND]]
    assert "86 more fit less well" in answer
    for letter in "abcdefgh":
        finding.find(letter + "1")
        for n in range(12):
            finding.take(f"crm_1__get_{letter}{n}")
    names = [tool.name for tool in finding.offered()]
    assert (len(names), names[0]) == (MOST_OFFERED + 1, FIND_TOOLS)
    assert "crm_1__get_h11" in names and "crm_1__get_a0" not in names


def test_what_a_server_says_of_its_tools_is_cut_and_may_be_nonsense() -> None:
    wide = {"type": "object", "properties": {f"p{n}": {"type": "string", "description": "y" * 999} for n in range(99)}}
    odd = a_tool("odd", inputSchema={"properties": {"a": "nonsense", "b": {"type": ["x"]}}, "required": "a"})
    answer = shelf(a_tool("wide", "z" * 9999, inputSchema=wide), odd).find("wide odd")
    first, second = (json.loads(line) for line in answer.splitlines()[1:])
    assert len(answer) < 3000 and first["inputs"]["…"] == "87 more"
    assert second["inputs"] == {"a": "any", "b": "any"}


# --- The threshold and the name ---------------------------------------------------------------------------------------


def test_a_few_large_tools_are_too_many_too() -> None:
    small, large = {"name": "s"}, {"name": "l", "description": "x" * 4000}
    assert not must_be_searched([small] * MOST_TOOLS)
    assert must_be_searched([small] * (MOST_TOOLS + 1))
    few = MOST_TOKENS // 1000 - 1
    assert not must_be_searched([large] * few)
    assert must_be_searched([large] * (few + 2))


def test_no_tool_of_a_server_can_take_the_searchs_name() -> None:
    for slug in ("find", "find-tools", "f"):
        for name in name_tools(server_prefix(slug, 1), (FIND_TOOLS, "tools", "", "__", "x" * 200)):
            assert name != FIND_TOOLS and "__" in name
