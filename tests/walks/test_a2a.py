"""Walk 7: another agent asks one of ours, whose person has not connected; once they have, the same task goes on."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from google.protobuf.json_format import MessageToDict

from agents.models import Agent, LlmConfig, ToolCall
from agents.services.agents import save_agent, save_llm_config
from aster.demo.scripted_model import MODEL
from aster.demo.world import DemoWorld
from integrations.models import McpServer
from tests.agents.a2a_clients import VERSIONS, Caller, answer_in, state_of, text_of
from tests.conftest import Person
from tests.walks.conftest import callback_params, consent

pytestmark = [pytest.mark.walk, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def agent(alice: Person, notes: McpServer, world: DemoWorld) -> Agent:
    model = LlmConfig(name="Scripted", base_url=world.model_url, model=MODEL)
    save_llm_config(model, actor=alice.actor)
    return save_agent(Agent(name="Helper", llm_config=model), actor=alice.actor, server_ids=[notes.pk])


def connect(person: Person, server: McpServer) -> None:
    begun = person.api().post(f"/api/v1/config/mcp-server/{server.pk}/connect").json()
    done = person.api().get("/api/v1/oauth/callback", callback_params(consent(begun["authorization_url"])))
    assert done.status_code == 200


@pytest.mark.parametrize("streaming", [False, True], ids=["waiting", "streaming"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_missing_connection_is_made_and_the_task_goes_on(
    aster: str, agent: Agent, notes: McpServer, bob: Person, alice: Person, version: str, streaming: bool
) -> None:
    caller = Caller(agent, bob.key("aster:call"), version, streaming)
    *_, last = caller.events("Show me my notes")
    waiting = last.status_update if streaming else last.task
    assert state_of(waiting) == "TASK_STATE_AUTH_REQUIRED"
    words, facts = waiting.status.message.parts
    (link,) = MessageToDict(facts.data)["links"]
    assert (link["kind"], link["server"]) == ("connect", "Acme Notes")
    assert link["url"] in words.text and "send a message to this task" in words.text
    task_id = waiting.task_id if streaming else waiting.id
    assert state_of(caller.get(task_id)) == "TASK_STATE_AUTH_REQUIRED"
    assert opens(bob, link["url"]) == 200 and opens(alice, link["url"]) == 403

    connect(bob, notes)
    caller.events("It is connected. My notes, please.", task_id=task_id)
    done = caller.get(task_id)
    assert state_of(done) == "TASK_STATE_COMPLETED" and "You have" in answer_in(done)
    said = [text_of(each.parts) for each in done.history]
    assert said[0] == "Show me my notes" and "a connection is needed" in said[1] and len(said) == 3
    call = ToolCall.objects.filter(outcome="ok").get()
    assert (call.via, call.connection_label) == ("a2a", "Bob at Acme ID")


def opens(person: Person, url: str) -> Any:
    browser: Client = person.browser()
    return browser.get(url, follow=True).status_code
