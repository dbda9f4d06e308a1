"""Deleting what the file does not have: what goes with it is said, and its name is free for another."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.management import CommandError

from agents.models import Agent, Conversation
from integrations.models import AuthConfig, McpServer
from tests.configuration.stage import apply, mcp, plan, write
from tests.conftest import Person

pytestmark = pytest.mark.django_db
URL = "https://93.184.216.34/mcp"
FILE = f"""version: 1
auth_configs: {{Key: {{auth_type: BEARER, token: "file:/proc/self/comm"}}}}
servers:
  crm: {{name: CRM, url: "{URL}", auth_config: Key}}
  wiki: {{name: Wiki, url: "{URL}"}}
agents: {{helper: {{name: Helper, servers: [crm, wiki]}}}}
"""


def test_what_goes_with_an_object_is_said_before_the_yes(alice: Person, tmp_path: Path) -> None:
    apply(write(tmp_path, FILE))
    Conversation.objects.create(organization=alice.organization, agent=Agent.objects.get(), user=alice.user)
    empty = write(tmp_path, "version: 1\nservers: {}\nagents: {}\n")
    told = mcp("plan", empty, "--prune")[1].splitlines()
    assert "    Helper can no longer use it." in told
    assert "    The auth config Key, which nothing else uses." in told
    assert "    1 conversation with it." in told
    lost = {each["key"]: each["lost"] for each in plan(empty, "--prune")[1]["changes"]}
    assert "1 conversation with it." in lost["helper"]
    kept = write(tmp_path, FILE[: FILE.index("servers:")] + "servers: {}\n")
    assert "The auth config Key" not in mcp("plan", kept, "--prune")[1]
    apply(kept, "--prune")
    assert AuthConfig.objects.get().token


def test_another_object_takes_the_name_of_a_pruned_one(alice: Person, tmp_path: Path) -> None:
    apply(write(tmp_path, FILE))
    renamed = FILE.replace("crm", "sales").replace("helper", "seller")
    apply(write(tmp_path, renamed[:11] + renamed[renamed.index("servers:") :]), "--prune")
    assert McpServer.objects.get(name="CRM").slug == "sales"
    assert AuthConfig.objects.get().servers.get().slug == "sales"
    assert Agent.objects.get().slug == "seller"
    assert mcp("plan", write(tmp_path, renamed), "--prune")[0] == 0


def test_an_agent_forgets_a_pruned_server_and_a_file_that_gives_it_one_is_refused(
    alice: Person, tmp_path: Path
) -> None:
    apply(write(tmp_path, FILE))
    text = f"version: 1\nservers: {{wiki: {{url: '{URL}'}}}}\nagents: {{helper: {{prompt: Be brief.}}}}\n"
    with pytest.raises(CommandError, match="there is no server crm"):
        mcp("plan", write(tmp_path, text.replace("{prompt", "{servers: [crm], prompt")), "--prune")
    apply(write(tmp_path, text), "--prune")
    assert list(Agent.objects.get().servers.values_list("slug", flat=True)) == ["wiki"]
