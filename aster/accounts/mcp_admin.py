"""The admin MCP server's tools about the organization: its members, API keys and audit trail. They only read."""

from __future__ import annotations

import json
from typing import Any

from rest_framework import serializers

from aster.accounts import api_shapes as shapes
from aster.accounts import services
from aster.accounts.access import Actor
from aster.accounts.api import show_api_key, show_event, show_member
from aster.accounts.audit_words import VIAS
from aster.accounts.models import AuditEvent
from aster.mcp_admin.pages import PageIn, chosen, cut, page, page_shape
from aster.mcp_admin.schemas import part_of
from aster.mcp_admin.tools import Answer, admin_tool

LONGEST_VALUE = 300

KeyLine = part_of(
    "KeyLine", shapes.ApiKeyOut, "id", "name", "user", "scopes", "state", "expires_at", "last_used_at", "hint"
)


class EventsIn(PageIn):
    action = serializers.CharField(max_length=50, required=False, help_text="Such as created, updated or deleted.")
    object_type = serializers.CharField(max_length=50, required=False, help_text="Such as mcpserver or agent.")
    object_id = serializers.CharField(max_length=50, required=False, help_text="The object's id.")
    via = serializers.ChoiceField(choices=[*VIAS], required=False, help_text="gateway: through an MCP client.")


@admin_tool("List members", takes=PageIn, gives=page_shape(shapes.MemberOut))
def list_members(actor: Actor, values: dict[str, Any]) -> Answer:
    """List the people of the organization with their e-mail addresses and roles."""
    rows = actor.organization.memberships.select_related("user")
    return page(rows, values, lambda found: [show_member(row) for row in found], "member")


@admin_tool("List API keys", takes=PageIn, gives=page_shape(KeyLine))
def list_api_keys(actor: Actor, values: dict[str, Any]) -> Answer:
    """List API keys with their owner, scopes and state: your person's own, and for admins everybody's. The keys
    themselves are never shown; new ones are made in the hub."""
    rows, names = services.visible_api_keys(actor), [*KeyLine().fields]
    return page(rows, values, lambda found: [chosen(show_api_key(row), names) for row in found], "API key")


@admin_tool("List audit events", takes=EventsIn, gives=page_shape(shapes.AuditEventOut))
def list_audit_events(actor: Actor, values: dict[str, Any]) -> Answer:
    """The audit trail, newest first: who changed what, how, and each value before and after (secrets as [REDACTED],
    long values cut). Your person's own changes, and for admins everybody's."""
    rows = services.visible_events(actor)
    names = ("action", "object_type", "object_id", "via")
    rows = rows.filter(**{name: values[name] for name in names if values.get(name)})
    return page(rows, values, lambda found: [_show(event) for event in found], "event", newest_first=True)


def _show(event: AuditEvent) -> dict[str, Any]:
    shown = show_event(event)
    changes = shown["changes"] if isinstance(shown["changes"], dict) else {}
    return {**shown, "changes": {name: _short(pair) for name, pair in changes.items()}}


def _short(value: Any) -> Any:
    if isinstance(value, list) and len(value) == 2:
        return [_short_value(each) for each in value]
    return _short_value(value)


def _short_value(value: Any) -> Any:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return value if len(text) <= LONGEST_VALUE else cut(text, LONGEST_VALUE)
