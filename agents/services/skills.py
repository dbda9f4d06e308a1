"""What an agent can do, as its A2A card tells it: the tools of those servers whose tools are to be shown as skills."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass

from agents.models import Agent
from agents.services import calls, tool_scopes
from agents.services.calls import AgentTool
from aster.accounts.access import Actor

# A card is read whole by those who choose among agents.
MAX_SKILLS, MAX_DESCRIPTION = 500, 1000
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")


@dataclass(frozen=True)
class Skill:
    id: str
    name: str
    description: str
    tags: list[str]
    scopes: list[str]


def skills_of(agent: Agent, *, actor: Actor) -> list[Skill]:
    """The skills for `actor`: what they could not call is not told, and neither is what stands in for a sign-in."""
    offered = calls.agent_tools(agent, actor=actor)
    shown = [each for each in offered if each.tool and each.server.expose_as_skills][:MAX_SKILLS]
    return [_skill(agent, each, found) for found, each in _with_ids(shown).items()]


def _with_ids(shown: list[AgentTool]) -> dict[str, AgentTool]:
    """`mcp_read_file`; with the server's slug where two servers have it, and a hash where that is still not enough."""
    plain = Counter(_plain_id(each) for each in shown)
    named: dict[str, AgentTool] = {}
    for each in shown:
        found = _plain_id(each)
        if plain[found] > 1:
            found = f"{found}_{each.server.slug}"
        if found in named:
            found = f"{found}_{hashlib.sha256(str(each.tool).encode()).hexdigest()[:10]}"
        named[found] = each
    return named


def _plain_id(each: AgentTool) -> str:
    return f"mcp_{_UNSAFE.sub('_', str(each.tool))}"


def _skill(agent: Agent, each: AgentTool, found: str) -> Skill:
    tool = each.tool
    words = (tool.description or tool.title) if tool else ""
    name = f"{each.server.slug}:{tool}"
    scopes = tool_scopes.needed_scopes(agent, each).scopes
    return Skill(found, name, words[:MAX_DESCRIPTION], ["mcp", each.server.name], scopes)
