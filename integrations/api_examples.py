"""Example bodies of the API of servers, auth configs and connections. The tests hold each against its shape."""

from __future__ import annotations

from typing import Any

from aster.accounts.audit import REDACTED

_CREATED = {"created_at": "2026-11-20T09:00:00Z", "updated_at": "2026-11-20T09:00:00Z"}
_NO_SECRETS: dict[str, Any] = {
    "custom_headers": {}, "token": "", "username": "", "password": "", "extra_authorize_params": {},
    "extra_token_params": {},
}  # fmt: skip

OAUTH_CONFIG_BODY = {
    "name": "Acme ID",
    "auth_type": "AUTHORIZATION_CODE",
    "authorization_url": "https://id.acme.example/oauth/v1/authorize",
    "token_url": "https://id.acme.example/oauth/v1/token",
    "client_id": "aster-7f3c",
    "client_secret": "the-secret-from-the-provider",
    "allowed_redirect_uris": ["https://tools.acme.example/callback"],
    "use_pkce": True,
}
HEADER_CONFIG_BODY = {"name": "API key", "auth_type": "NONE", "custom_headers": {"X-Api-Key": "your-api-key"}}
BASIC_CONFIG_BODY = {"name": "Basic", "auth_type": "BASIC", "username": "user", "password": "password"}
MACHINE_CONFIG_BODY = {
    "name": "Machine to machine",
    "auth_type": "CLIENT_CREDENTIALS",
    "token_url": "https://id.acme.example/oauth/v1/token",
    "client_id": "aster-machine",
    "client_secret": "the-secret-from-the-provider",
}
AUTH_CONFIG: dict[str, Any] = {
    **{"id": 3, "name": "Acme ID", "auth_type": "AUTHORIZATION_CODE", **_NO_SECRETS},
    **{"client_mode": "known_credentials", "client_id": "aster-7f3c", "client_secret": REDACTED},
    **{"token_endpoint_auth_method": "", "use_pkce": True, "issuer": "https://id.acme.example"},
    "allowed_redirect_uris": ["https://tools.acme.example/callback"],
    "authorization_url": "https://id.acme.example/oauth/v1/authorize",
    "token_url": "https://id.acme.example/oauth/v1/token",
    **{"registration_url": "", "revocation_url": "https://id.acme.example/oauth/v1/revoke"},
    **{"resource": "https://mcp.acme.example/mcp", "scopes": ["notes:read"], "resource_mode": "send", "audience": ""},
    **{"scope_on_refresh": False, "callback_url": "https://aster.example.com/api/mcp/oauth/callback"},
    **{"assume_pkce": False, "allow_legacy_endpoints": False, "preset": "", "subject_config_id": None},
    "client_private_key": "",
    **{"discovered_at": "2026-11-20T09:00:00Z", **_CREATED},
}

TOOL: dict[str, Any] = {
    "name": "search_notes",
    "description": "Find notes that contain every word.",
    "inputSchema": {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
    "annotations": {"readOnlyHint": True},
}
SEEN_TOOL = {
    **{**TOOL, "first_seen_at": "2026-11-20T09:00:00Z", "last_seen_at": "2026-11-20T10:00:00Z"},
    "is_quarantined": False,
}
TEST: dict[str, Any] = {
    **{"status": "ok", "message": "1 tool found.", "step": "", "hint": "", "era": "modern"},
    **{"protocol_version": "2026-07-28", "latency_ms": 84, "tool_count": 1, "tool_names": ["search_notes"]},
    "problems": [],
}
TEST_WITH_TOOLS = {**TEST, "tools": [TOOL]}
FAILED_TEST: dict[str, Any] = {
    **TEST, "status": "failed", "message": "The server has no MCP endpoint at this path (404).", "step": "initialize",
    "hint": "Check the path: many servers answer at /mcp.", "era": "", "protocol_version": "", "latency_ms": 0,
    "tool_count": 0, "tool_names": [],
}  # fmt: skip
DIAGNOSIS: dict[str, Any] = {
    "status": "failed",
    "summary": "Sign-in: The sign-in is over. The provider refused: invalid_target: Unknown resource.",
    "at": "2026-11-20T09:00:00+00:00",
    "by": "ada@acme.example",
    "seconds": 0.8,
    "steps": [
        {
            "name": "token",
            "title": "Sign-in",
            "status": "failed",
            "found": "The sign-in is over. The provider refused: invalid_target: Unknown resource.",
            "advice": "The provider does not take the parameter “resource”.",
            "evidence": [
                {
                    "url": "https://id.acme.example/oauth/v1/token",
                    "status": None,
                    "words": "2026-11-20 08:54 UTC · Refused · background · The provider refused: invalid_target",
                }
            ],
            "fixes": [
                {
                    "id": "omit_resource",
                    "kind": "apply",
                    "text": "Leave out the parameter “resource” (RFC 8707), which this provider refuses.",
                    "label": "Leave out “resource”",
                    "value": "",
                }
            ],
        }
    ],
}
DISCOVERY: dict[str, Any] = {
    "requires_auth": True,
    "recommended_auth_mode": "AUTHORIZATION_CODE",
    "auth_url": "https://id.acme.example/oauth/v1/authorize",
    "token_url": "https://id.acme.example/oauth/v1/token",
    "register_url": "https://id.acme.example/oauth/v1/register",
    "resource": "https://mcp.acme.example/mcp",
    "scopes": ["notes:read", "notes:write"],
    "token_endpoint_auth_methods_supported": ["none", "client_secret_basic"],
    "authorization_servers": ["https://id.acme.example"],
    "resource_metadata_url": "https://mcp.acme.example/.well-known/oauth-protected-resource/mcp",
}

SERVER_BODY = {
    "name": "Acme Notes",
    "description": "Notes of the whole company",
    "url": "https://mcp.acme.example/mcp",
    "timeout_seconds": 60,
    "auth_config_id": 3,
}
_INLINE = {"name": "My MCP server", "url": "https://mcp.example.com/mcp"}
SERVER_BODIES = {
    "With a stored auth config": SERVER_BODY,
    "Open": {"name": "Acme Weather", "url": "https://weather.acme.example/mcp"},
    "API key in a header": {**_INLINE, "auth_config": HEADER_CONFIG_BODY},
    "Username and password": {**_INLINE, "auth_config": BASIC_CONFIG_BODY},
    "Client credentials": {**_INLINE, "auth_config": MACHINE_CONFIG_BODY},
    "Each person signs in, discovered": {**_INLINE, "auth_config": {"auth_type": "AUTHORIZATION_CODE"}},
    "Nested config": {
        "name": "Acme Notes",
        "config": {"endpoint": "https://mcp.acme.example/mcp", "auth": {"type": "token", "auth_token": "your-key"}},
    },
}
SERVER: dict[str, Any] = {
    **{"id": 12, "slug": "acme-notes", "name": "Acme Notes", "description": "Notes of the whole company"},
    **{"transport": "streamable_http", "url": "https://mcp.acme.example/mcp", "command": "", "args": []},
    **{"working_dir": "", "timeout_seconds": 60, "retry_attempts": 1, "is_enabled": True, "era": "modern"},
    **{"takes_changes": False, "expose_as_skills": False},
    **{"protocol_version": "2026-07-28", "tested_at": "2026-11-20T09:00:00Z", "env": {}, "auth_config_id": 3},
    **{"auth_type": "AUTHORIZATION_CODE", "auth_config": AUTH_CONFIG, "status": "connected", "error": None},
    **{"tool_count": 1, "last_test": TEST, "tool_scopes": {"delete_note": ["notes:delete"]}, **_CREATED},
}
SAVED_SERVER = {**SERVER, "connection_test_result": TEST_WITH_TOOLS, "discovery_result": DISCOVERY}
FAILED_CREATION = {
    "code": "connection_test_failed",
    "detail": f"{FAILED_TEST['message']} {FAILED_TEST['hint']}",
    "fields": {"url": [f"{FAILED_TEST['message']} {FAILED_TEST['hint']}"]},
    "connection_test_result": FAILED_TEST,
}

AUTHORIZATION_URL = "https://id.acme.example/oauth/v1/authorize?response_type=code&client_id=aster-7f3c&state=…"
CONNECTION: dict[str, Any] = {
    **{"id": 41, "status": "connected", "scopes": ["notes:read"], "issuer": "https://id.acme.example"},
    **{"expires_at": "2026-11-20T10:00:00Z", "refresh_at": "2026-11-20T09:54:00Z", "wanted_scopes": []},
    **{"refreshed_at": "2026-11-20T09:00:00Z", "last_used_at": None, "auth_config_id": 3, "auth_config": "Acme ID"},
    **{"user": "ada@acme.example", "error": None, "connected_at": "2026-11-20T09:00:00Z", "generation": 1},
}
ATTEMPT: dict[str, Any] = {
    **{"at": "2026-11-20T09:00:00Z", "outcome": "renewed", "reason": "background", "process": "aster-1:4711"},
    **{"generation": 2, "detail": "", "duration_ms": 112},
}
BEGUN = {"status": "authorization_required", "authorization_url": AUTHORIZATION_URL, "connection": None}
COMPLETED = {"status": "connected", "connection": CONNECTION}
CONNECTION_STATE = {
    "status": "connected",
    "error": None,
    "expires_at": CONNECTION["expires_at"],
    "connection": CONNECTION,
}
DISCONNECTED = {
    "status": "not_connected",
    "revocation": {"outcome": "revoked", "detail": "The provider revoked the tokens."},
}
CONNECTION_REQUIRED = {
    "code": "connection_required",
    "detail": "Connect your account at Acme Notes before using its tools.",
    "fields": {},
    "status": "not_connected",
    "server_id": 12,
    "auth_config_id": 3,
    "connect_url": "https://aster.example.com/hub/servers/acme-notes/connect/?organization=acme",
    "authorization_url": AUTHORIZATION_URL,
}
CALL_BODY = {"name": "search_notes", "arguments": {"query": "northwind"}}
CALL_RESULT = {"result": {"content": [{"type": "text", "text": "2 notes found."}], "isError": False}}
