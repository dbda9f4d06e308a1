"""What the OpenAPI document says about each operation."""

from __future__ import annotations

from typing import Any

Operation = dict[str, Any]
ADD_MEMBER: Operation = {}
CREATE_API_KEY: Operation = {}
DELETE: Operation = {}
GET_API_KEY: Operation = {}
GET_MEMBER: Operation = {}
GET_ORGANIZATION: Operation = {}
LIST_API_KEYS: Operation = {}
LIST_EVENTS: Operation = {}
LIST_MEMBERS: Operation = {}
REVOKE_API_KEY: Operation = {}
UPDATE_MEMBER: Operation = {}
UPDATE_ORGANIZATION: Operation = {}
