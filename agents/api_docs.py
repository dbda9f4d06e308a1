"""What the OpenAPI document says about each operation."""

from __future__ import annotations

from typing import Any

Operation = dict[str, Any]
AGENT_CALL: Operation = {}
AGENT_TOOLS: Operation = {}
CREATE_AGENT: Operation = {}
CREATE_LLM_CONFIG: Operation = {}
DELETE: Operation = {}
GET_AGENT: Operation = {}
GET_LLM_CONFIG: Operation = {}
LIST_AGENTS: Operation = {}
LIST_CALLS: Operation = {}
LIST_LLM_CONFIGS: Operation = {}
PUT_AGENT: Operation = {}
SERVER_CALL: Operation = {}
UPDATE_AGENT: Operation = {}
UPDATE_LLM_CONFIG: Operation = {}
