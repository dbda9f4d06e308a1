"""What an MCP client is told to reach the admin MCP server."""

from __future__ import annotations

import json

from django.conf import settings

from aster.accounts.models import Organization

NAME = "aster-admin"
HEADER = "Authorization: Bearer YOUR_API_KEY"


def admin_mcp_url(organization: Organization) -> str:
    return f"{settings.ASTER_PUBLIC_URL}/mcp/{organization.slug}/admin"


def claude_code_command(url: str) -> str:
    return f'claude mcp add --transport http {NAME} {url} \\\n  --header "{HEADER}"'


def client_json(url: str) -> str:
    name, value = HEADER.split(": ")
    return json.dumps({"mcpServers": {NAME: {"type": "http", "url": url, "headers": {name: value}}}}, indent=2)
