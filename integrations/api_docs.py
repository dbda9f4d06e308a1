"""What the OpenAPI document says about each operation."""

from __future__ import annotations

from typing import Any

Operation = dict[str, Any]
AUTHORIZE: Operation = {}
CALLBACK: Operation = {}
CONNECT: Operation = {}
CONNECTION: Operation = {}
CREATE_AUTH_CONFIG: Operation = {}
CREATE_SERVER: Operation = {}
DELETE: Operation = {}
DELETE_CONNECTION: Operation = {}
DISCONNECT: Operation = {}
DISCOVER: Operation = {}
GET_AUTH_CONFIG: Operation = {}
GET_CONNECTION: Operation = {}
GET_SERVER: Operation = {}
LIST_AUTH_CONFIGS: Operation = {}
LIST_CONNECTIONS: Operation = {}
LIST_SERVERS: Operation = {}
PUT_SERVER: Operation = {}
TEST_SERVER: Operation = {}
TEST_UNSAVED: Operation = {}
TOOLS: Operation = {}
TOOLS_REFRESH: Operation = {}
UPDATE_AUTH_CONFIG: Operation = {}
UPDATE_SERVER: Operation = {}
