"""The hub's pages about agents, their tools, their calls, and models."""

from __future__ import annotations

import json
import re
from html import unescape
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from agents.models import Agent, LlmConfig, ToolCall, ToolGrant
from agents.services.agents import assigned_servers, save_agent, tools_switched_off
from agents.services.client_setups import CLIENTS
from aster.accounts.models import AuditEvent
from integrations.models import AuthConfig, AuthType, McpServer, Tool
from tests.conftest import Person

pytestmark = pytest.mark.django_db


def text_of(response: Any) -> str:
    content: bytes = response.content
    return content.decode()


def make_server(person: Person, name: str, tools: int = 0, *, sign_in: bool = False) -> McpServer:
    auth = None
    if sign_in:
        auth = AuthConfig.objects.create(
            organization=person.organization, name=f"{name} ID", auth_type=AuthType.AUTHORIZATION_CODE
        )
    server = McpServer.objects.create(
        organization=person.organization, name=name, slug=name.lower(), url="https://example.com/mcp", auth_config=auth,
        test_status="ok",
    )  # fmt: skip
    for n in range(tools):
        hints = {"readOnlyHint": n == 0, "destructiveHint": n == 1}
        definition = {"name": f"tool_{n}", "description": f"Does {n}", "annotations": hints}
        Tool.objects.create(server=server, name=f"tool_{n}", definition=definition)
    return server


def make_agent(person: Person, *servers: McpServer, name: str = "Helper") -> Agent:
    agent = Agent(name=name, description="Helps", organization=person.organization)
    return save_agent(agent, actor=person.actor, server_ids=[server.pk for server in servers])


def make_call(agent: Agent, person: Person, tool: str) -> None:
    ToolCall.objects.create(
        organization=person.organization, user=person.user, user_label=person.user.email, agent=agent, tool_name=tool,
        via="gateway", outcome="ok",
    )  # fmt: skip


def off_at(agent: Agent, server: McpServer) -> set[str]:
    return {name for pk, name in tools_switched_off(agent) if pk == server.pk}


# --- List and general -------------------------------------------------------------------------------------------------


def test_a_card_says_what_an_agent_has_and_what_waits_for_me(alice: Person, bob: Person) -> None:
    crm, wiki = make_server(alice, "Crm", 3), make_server(alice, "Wiki", 2, sign_in=True)
    agent = make_agent(alice, crm, wiki)
    ToolGrant.objects.create(agent=agent, server=crm, tool_name="tool_1", is_enabled=False)
    ToolGrant.objects.create(agent=agent, server=crm, tool_name="long gone", is_enabled=False)
    page = text_of(bob.browser().get("/hub/agents/"))
    assert "2 servers" in page and "4 tools on" in page
    assert "Wiki needs you to connect" in page and "/hub/servers/wiki/connect/" in page
    assert agent.gateway_url in page
    assert "Add agent" not in page


def test_the_empty_list_says_what_to_do(alice: Person, bob: Person) -> None:
    assert 'href="/hub/agents/add/"' in text_of(alice.browser().get("/hub/agents/"))
    assert "Ask an admin" in text_of(bob.browser().get("/hub/agents/"))


def test_more_agents_and_servers_cost_no_more_queries(alice: Person) -> None:
    def measure() -> list[int]:
        counts = []
        for path in ("agents/", "agent/helper/tools/", "agent/helper/use/", "agent/helper/calls/"):
            browser.get(f"/hub/{path}")
            with CaptureQueriesContext(connection) as queries:
                assert browser.get(f"/hub/{path}").status_code == 200
            counts.append(len(queries))
        return counts

    browser = alice.browser()
    agent = make_agent(alice, make_server(alice, "First", 3), make_server(alice, "Second", 3, sign_in=True))
    make_call(agent, alice, "t")
    few = measure()
    servers = [make_server(alice, f"Server{n}", 4, sign_in=n % 2 == 0) for n in range(6)]
    save_agent(agent, actor=alice.actor, server_ids=[server.pk for server in servers])
    for n in range(5):
        make_agent(alice, *servers, name=f"Other {n}")
        make_call(agent, alice, "t")
    assert measure() == few
    assert max(few) <= 18


def test_an_agent_is_added_and_its_tools_are_next(alice: Person) -> None:
    form = {"name": "Sales", "prompt": "Be brief.", "input_json_schema": '{"type": "object"}', "is_enabled": "on"}
    assert alice.browser().post("/hub/agents/add/", form)["Location"] == "/hub/agent/sales/tools/"
    agent = Agent.objects.get()
    assert (agent.prompt, agent.input_json_schema, agent.is_enabled) == ("Be brief.", {"type": "object"}, True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": ""}, "required"),
        ({"input_json_schema": '{"type": '}, "Not valid JSON at line 1, column 9"),
        ({"input_json_schema": "[]"}, "Must be a JSON object"),
        ({"input_json_schema": '{"type": "string"}'}, "Must describe an object"),
        ({"input_json_schema": '{"type": "object", "properties": 3}'}, "Is not a JSON Schema"),
        ({"llm_config": "999"}, "valid choice"),
    ],
)
def test_what_makes_no_sense_is_said_beside_the_field(alice: Person, changes: dict[str, str], words: str) -> None:
    response = alice.browser().post("/hub/agents/add/", {"name": "Sales", **changes})
    assert response.status_code == 400
    assert words in text_of(response)
    assert not Agent.objects.exists()


def test_general_settings_are_changed_by_admins_and_read_by_members(alice: Person, bob: Person) -> None:
    agent = make_agent(alice)
    config = LlmConfig.objects.create(
        organization=alice.organization, name="Model", base_url="https://x.test/v1", model="m"
    )
    form = {"name": "Renamed", "description": "d", "llm_config": str(config.pk), "is_enabled": ""}
    assert alice.browser().post("/hub/agent/helper/", form).status_code == 302
    agent.refresh_from_db()
    assert (agent.name, agent.slug, agent.llm_config, agent.is_enabled) == ("Renamed", "helper", config, False)
    page = text_of(bob.browser().get("/hub/agent/helper/"))
    assert "Only admins change agents" in page and "Save" not in page and "disabled" in page
    assert bob.browser().post("/hub/agent/helper/", {"name": "Hacked"}).status_code == 403
    assert Agent.objects.get().name == "Renamed"


def test_deleting_asks_first(alice: Person, bob: Person) -> None:
    make_agent(alice)
    assert "Delete Helper?" in text_of(alice.browser().get("/hub/agent/helper/delete/"))
    assert bob.browser().post("/hub/agent/helper/delete/").status_code == 403
    assert Agent.objects.exists()
    alice.browser().post("/hub/agent/helper/delete/")
    assert not Agent.objects.exists()


@pytest.mark.parametrize("path", ["", "tools/", "use/", "calls/", "delete/"])
def test_another_organization_does_not_see_the_agent(alice: Person, charlie: Person, path: str) -> None:
    make_agent(alice)
    assert charlie.browser().get(f"/hub/agent/helper/{path}").status_code == 404
    assert charlie.browser().post(f"/hub/agent/helper/{path}", {"name": "x"}).status_code in (404, 405)
    assert "Helper" not in text_of(charlie.browser().get("/hub/agents/"))
    assert "Helper" not in text_of(charlie.browser().get("/hub/agents/agent/"))


def test_the_use_page_gives_what_each_client_needs(alice: Person, bob: Person) -> None:
    agent = make_agent(alice, make_server(alice, "Crm", 2), make_server(alice, "Wiki", 0, sign_in=True))
    for client in CLIENTS:
        page = text_of(bob.browser().get(f"/hub/agent/helper/use/?client={client.slug}"))
        assert agent.gateway_url in page and f"Use Helper in {client.name}" in page
        assert f"curl {agent.a2a_url}" in page and "no model to think with" in page
        assert "__tool_1" in page and "__connect_account" in page
    page = text_of(bob.browser().get("/hub/agent/helper/use/?client=vscode"))
    shown = unescape(re.sub(r"<[^>]+>", "", page))
    config = json.loads(shown[shown.index('{\n  "inputs"') :].split("\n}")[0] + "\n}")
    assert config["servers"]["helper"]["url"] == agent.gateway_url


def test_the_use_page_offers_the_address_of_one_server(alice: Person) -> None:
    agent = make_agent(alice, make_server(alice, "Crm", 2), make_server(alice, "Wiki", 0, sign_in=True))
    page = text_of(alice.browser().get("/hub/agent/helper/use/?client=curl&server=crm"))
    assert f"curl {agent.gateway_url}/crm " in page and ">tool_1<" in page and "connect_account" not in page
    assert "?client=python&amp;server=crm" in page
    assert "wiki" not in text_of(alice.browser().get("/hub/agent/helper/use/?server=crm")).split("Tools as clients")[1]
    assert f'value="{agent.gateway_url}"' in text_of(alice.browser().get("/hub/agent/helper/use/?server=none"))


def test_the_use_page_of_an_agent_that_offers_nothing_says_so(alice: Person) -> None:
    agent = make_agent(alice)
    assert "No tools on" in text_of(alice.browser().get("/hub/agent/helper/use/"))
    Agent.objects.filter(pk=agent.pk).update(is_enabled=False)
    assert "This agent is disabled" in text_of(alice.browser().get("/hub/agent/helper/use/"))


def test_an_agents_calls_are_ones_own_for_members(alice: Person, bob: Person) -> None:
    agent = make_agent(alice)
    for person, name in ((alice, "hers"), (bob, "his")):
        make_call(agent, person, name)
    assert "hers" not in text_of(bob.browser().get("/hub/agent/helper/calls/"))
    page = text_of(alice.browser().get("/hub/agent/helper/calls/"))
    assert "hers" in page and "his" in page


# --- Tools ------------------------------------------------------------------------------------------------------------


def post_tools(person: Person, servers: list[McpServer], **more: Any) -> Any:
    return person.browser().post("/hub/agent/helper/tools/", {"server": [s.pk for s in servers], **more}, follow=True)


def shown(server: McpServer) -> dict[str, str]:
    return {f"shown-{server.pk}": json.dumps([tool.name for tool in server.tools.all()])}


def test_one_post_saves_servers_and_switches(alice: Person) -> None:
    crm, wiki = make_server(alice, "Crm", 3), make_server(alice, "Wiki", 2)
    agent = make_agent(alice, crm)
    page = post_tools(alice, [crm, wiki], **shown(crm), **{f"tool-{crm.pk}": ["tool_0"]})
    assert assigned_servers(agent) == [crm, wiki]
    assert off_at(agent, crm) == {"tool_1", "tool_2"}
    assert off_at(agent, wiki) == set()
    assert "1 of 3 tools on" in text_of(page) and "2 of 2 tools on" in text_of(page)
    assert "Read-only" in text_of(page) and "Destructive" in text_of(page)


def test_tools_that_were_not_shown_keep_their_state(alice: Person) -> None:
    crm = make_server(alice, "Crm", 4)
    agent = make_agent(alice, crm)
    ToolGrant.objects.create(agent=agent, server=crm, tool_name="tool_3", is_enabled=False)
    searched = {f"shown-{crm.pk}": json.dumps(["tool_0", "tool_1"]), f"tool-{crm.pk}": ["tool_1"]}
    post_tools(alice, [crm], **searched)
    assert off_at(agent, crm) == {"tool_0", "tool_3"}


@pytest.mark.parametrize(("button", "off"), [("all", set()), ("none", {"tool_0", "tool_1", "tool_2"})])
def test_all_on_and_all_off_work_without_javascript(alice: Person, button: str, off: set[str]) -> None:
    crm = make_server(alice, "Crm", 3)
    agent = make_agent(alice, crm)
    post_tools(alice, [crm], **shown(crm), **{f"tool-{crm.pk}": ["tool_0"], button: crm.pk})
    assert off_at(agent, crm) == off


def test_nothing_is_saved_when_a_part_is_wrong(alice: Person, charlie: Person) -> None:
    crm, foreign = make_server(alice, "Crm", 2), make_server(charlie, "Foreign", 1)
    agent = make_agent(alice, crm)
    assert "There is no MCP server with id" in text_of(post_tools(alice, [foreign], **shown(crm)))
    post_tools(alice, [crm], **{f"shown-{crm.pk}": "not json", f"tool-{crm.pk}": ["tool_0"]})
    alice.browser().post("/hub/agent/helper/tools/", {"server": ["x"]})
    assert assigned_servers(agent) == [crm]
    assert off_at(agent, crm) == set()


def test_switches_the_page_does_not_know_are_refused(alice: Person) -> None:
    crm = make_server(alice, "Crm", 2)
    agent = make_agent(alice, crm)
    page = post_tools(alice, [crm], **{f"shown-{crm.pk}": json.dumps(["tool_0", "no_such"])})
    assert "Crm has no tool no_such." in text_of(page)
    assert off_at(agent, crm) == set()


def test_members_see_the_switches_but_cannot_use_them(alice: Person, bob: Person) -> None:
    crm = make_server(alice, "Crm", 2)
    agent = make_agent(alice, crm)
    page = text_of(bob.browser().get("/hub/agent/helper/tools/"))
    assert "hx-post" not in page and page.count("disabled") >= 3
    assert post_tools(bob, [], **shown(crm)).status_code == 403
    htmx = bob.browser().post(f"/hub/agent/helper/tools/{crm.pk}/", shown(crm), headers={"HX-Request": "true"})
    assert htmx["HX-Refresh"] == "true"
    assert assigned_servers(agent) == [crm] and off_at(agent, crm) == set()


def test_a_switch_saves_in_place(alice: Person, charlie: Person) -> None:
    crm, url = make_server(alice, "Crm", 3), "/hub/agent/helper/tools/{}/"
    agent = make_agent(alice, crm)
    browser, htmx = alice.browser(), {"HX-Request": "true"}
    answer = browser.post(url.format(crm.pk), {**shown(crm), f"tool-{crm.pk}": ["tool_2"]}, headers=htmx)
    assert off_at(agent, crm) == {"tool_0", "tool_1"}
    assert "1 of 3 tools on" in text_of(answer) and "tool-grid" not in text_of(answer)
    everything = browser.post(url.format(crm.pk), {**shown(crm), "all": crm.pk}, headers=htmx)
    assert "3 of 3 tools on" in text_of(everything) and "tool-grid" in text_of(everything)
    foreign = make_server(charlie, "Foreign", 1)
    assert browser.post(url.format(foreign.pk), {}, headers=htmx)["HX-Refresh"] == "true"
    assert charlie.browser().post(url.format(crm.pk), {}, headers=htmx).status_code == 404


def test_many_tools_can_be_searched_and_come_with_a_warning(alice: Person) -> None:
    crm = make_server(alice, "Crm", 45)
    make_agent(alice, crm)
    browser = alice.browser()
    page = text_of(browser.get("/hub/agent/helper/tools/"))
    assert "That is a lot of tools" in page and "Search 45 tools" in page and "tokens in each request" in page
    found = text_of(browser.get(f"/hub/agent/helper/tools/?server={crm.pk}&q=does+44"))
    assert found.count('role="switch"') == 1
    part = browser.get(f"/hub/agent/helper/tools/{crm.pk}/?q=tool_44", headers={"HX-Request": "true"})
    assert text_of(part).count('role="switch"') == 1 and "<html" not in text_of(part)
    post_tools(alice, [crm], **{f"shown-{crm.pk}": json.dumps([f"tool_{n}" for n in range(10)])})
    assert "That is a lot of tools" not in text_of(browser.get("/hub/agent/helper/tools/"))


def test_words_of_a_server_are_text(alice: Person) -> None:
    evil = "<script>alert(1)</script>"
    server = make_server(alice, "Evil")
    definition = {
        "name": evil,
        "title": evil,
        "description": evil,
        "inputSchema": {"properties": {evil: {"title": evil}}},
    }
    Tool.objects.create(server=server, name=evil, definition=definition)
    make_agent(alice, server)
    browser = alice.browser()
    for path in ("agent/helper/tools/", "agent/helper/use/", "playground/?server=evil"):
        assert evil not in text_of(browser.get(f"/hub/{path}"))
    page = text_of(browser.get("/hub/playground/", {"server": "evil", "tool": evil}))
    assert "Run" in page and evil not in page


# --- Models -----------------------------------------------------------------------------------------------------------

SECRET = "sk-canary-93417"
MODEL = {
    **{"name": "Our model", "protocol": "openai", "base_url": "https://api.example.com/v1", "model": "m-1"},
    "max_tokens": 4096,
}


@pytest.fixture(autouse=True)
def _resolvable(settings: Any) -> None:
    settings.ASTER_ALLOWED_HOSTS_PRIVATE = ["api.example.com"]


def test_a_models_key_goes_in_and_never_comes_out(alice: Person) -> None:
    browser = alice.browser()
    added = browser.post("/hub/llm-configs/add/", {**MODEL, "api_key": SECRET}, follow=True)
    config = LlmConfig.objects.get()
    assert config.api_key == SECRET
    browser.post(f"/hub/llm-configs/{config.pk}/", {**MODEL, "model": "m-2", "api_key": ""})
    config.refresh_from_db()
    assert (config.api_key, config.model) == (SECRET, "m-2")
    pages = [added, browser.post(f"/hub/llm-configs/{config.pk}/", {**MODEL, "name": "", "api_key": SECRET})]
    paths = ("llm-configs/", f"llm-configs/{config.pk}/", "agents/llmconfig/", "activity/", "activity/export/")
    pages += [browser.get(f"/hub/{path}") for path in paths]
    for page in pages:
        assert SECRET not in (page.getvalue() if page.streaming else page.content).decode()
    browser.post(f"/hub/llm-configs/{config.pk}/", {**MODEL, "forget_key": "on"})
    config.refresh_from_db()
    assert config.api_key == ""


def test_a_model_may_speak_anthropics_protocol_and_has_a_longest_answer(alice: Person) -> None:
    browser = alice.browser()
    for change, words in (
        ({"protocol": "telnet"}, "valid choice"), ({"max_tokens": "0"}, "greater than or equal to 1"),
    ):  # fmt: skip
        page = browser.post("/hub/llm-configs/add/", {**MODEL, **change})
        assert page.status_code == 400 and words in text_of(page)
    browser.post("/hub/llm-configs/add/", {**MODEL, "protocol": "anthropic", "max_tokens": "900"})
    config = LlmConfig.objects.get()
    assert (config.protocol, config.max_tokens) == ("anthropic", 900)


def test_models_are_for_admins_of_their_organization(alice: Person, bob: Person, charlie: Person) -> None:
    config = LlmConfig.objects.create(organization=alice.organization, **MODEL)
    for path in ("llm-configs/", "llm-configs/add/", f"llm-configs/{config.pk}/", f"llm-configs/{config.pk}/delete/"):
        assert bob.browser().get(f"/hub/{path}").status_code == 403
    assert charlie.browser().get(f"/hub/llm-configs/{config.pk}/").status_code == 404
    assert charlie.browser().post(f"/hub/llm-configs/{config.pk}/delete/").status_code == 404
    assert "Our model" not in text_of(charlie.browser().get("/hub/llm-configs/"))


def test_a_model_in_use_stays(alice: Person) -> None:
    config = LlmConfig.objects.create(organization=alice.organization, **MODEL)
    agent = make_agent(alice)
    agent.llm_config = config
    save_agent(agent, actor=alice.actor)
    page = alice.browser().post(f"/hub/llm-configs/{config.pk}/delete/", follow=True)
    assert "Still used by Helper" in text_of(page)
    agent.llm_config = None
    save_agent(agent, actor=alice.actor)
    alice.browser().post(f"/hub/llm-configs/{config.pk}/delete/")
    assert not LlmConfig.objects.exists()


@pytest.mark.parametrize("url", ["ftp://x", "nonsense", "http://169.254.169.254/"])
def test_a_model_must_have_an_address_that_may_be_reached(alice: Person, url: str) -> None:
    response = alice.browser().post("/hub/llm-configs/add/", {**MODEL, "base_url": url})
    assert response.status_code == 400
    assert "errorlist" in text_of(response)


def test_the_change_list_switches_agents_in_bulk(alice: Person, bob: Person) -> None:
    agent = make_agent(alice)
    chosen = {"action": "disable", "_selected_action": [agent.pk]}
    bob.browser().post("/hub/agents/agent/", chosen)
    assert Agent.objects.get().is_enabled
    assert "1 agent disabled." in text_of(alice.browser().post("/hub/agents/agent/", chosen, follow=True))
    assert not Agent.objects.get().is_enabled
    assert AuditEvent.objects.latest("pk").action == "disabled"
    assert alice.browser().get(f"/hub/agents/agent/{agent.pk}/change/")["Location"] == "/hub/agent/helper/"
