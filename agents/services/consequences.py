"""What goes with an agent that is deleted and what stays, in words: told before anybody says yes."""

from __future__ import annotations

from agents.models import Agent


def lost_with(agent: Agent) -> list[str]:
    items = ["MCP clients that use its gateway URL stop working at once."]
    counts = ((agent.conversations.count(), "conversation"), (agent.scheduled_tasks.count(), "scheduled task"))
    if gone := " and ".join(f"{count} {noun}{'' if count == 1 else 's'}" for count, noun in counts if count):
        items.append(f"{gone} with it.")
    return [*items, "Servers and people's connections stay.", "The record of its calls stays in the activity."]
