"""The part of an agent's "Use it" page that is about other agents."""

from __future__ import annotations

import json

from agents.models import Agent


def a2a_curl(agent: Agent) -> str:
    """A request of A2A 1.0 to try it with."""
    message = {"messageId": "1", "role": "ROLE_USER", "parts": [{"text": "Hello"}]}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": message}})
    lines = [
        f"curl {agent.a2a_url}",
        '-H "X-API-Key: YOUR_API_KEY"',
        '-H "A2A-Version: 1.0"',
        '-H "Content-Type: application/json"',
        f"-d '{body}'",
    ]
    return " \\\n  ".join(lines)
