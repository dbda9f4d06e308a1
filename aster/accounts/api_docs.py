"""What the OpenAPI document says about each operation on the organization."""

from __future__ import annotations

from aster.accounts import api_shapes as shapes
from aster.accounts.access import KEY_SCOPES
from aster.accounts.api_bodies import ApiKeyIn, MemberIn, OrganizationIn, RoleIn
from aster.accounts.audit_words import VIAS
from aster.openapi import (
    PAGE_PARAMETERS,
    Operation,
    filter_parameter,
    id_parameter,
    operation,
    page_example,
    page_of,
)

TAG = "Organization"
_MEMBER, _API_KEY = (id_parameter("membership"),), (id_parameter("API key"),)
_SCOPES = "\n".join(f"- `{scope}`: {words}" for scope, words in KEY_SCOPES.items())

ORGANIZATION = {
    **{"id": 1, "slug": "acme", "name": "Acme", "scope_hierarchy": {"admin": ["*"], "files:write": ["files:read"]}},
    **{"keep_calls_days": None, "created_at": "2026-11-20T09:00:00Z", "role": "admin"},
}
MEMBER = {
    **{"id": 7, "email": "ben@acme.example", "name": "Ben Okafor", "role": "member", "last_login": None},
    "created_at": "2026-11-20T09:00:00Z",
}
API_KEY = {
    **{"id": 9, "name": "CI", "scopes": ["aster:call", "aster:read"], "expires_at": "2027-11-20T00:00:00Z"},
    **{"revoked_at": None, "last_used_at": None, "created_at": "2026-11-20T09:00:00Z", "hint": "ask_3f9a…"},
    **{"user": "ben@acme.example", "state": "active"},
}
EVENT = {
    **{"actor": "ada@acme.example", "id": 301, "at": "2026-11-20T09:00:00Z", "via": "api", "action": "updated"},
    **{"object_type": "mcpserver", "object_id": "12", "object_label": "Acme Notes"},
    **{"changes": {"timeout_seconds": [30, 60]}, "request_id": "9f2c1d0e8b7a6543"},
}

GET_ORGANIZATION: Operation = operation(
    "get_organization", "Show the organization", tag=TAG, response=shapes.OrganizationOut, example=ORGANIZATION,
    words="The one the key belongs to, or that the session works in.",
)  # fmt: skip
UPDATE_ORGANIZATION: Operation = operation(
    "update_organization", "Update the organization", tag=TAG, errors=(400,),
    words="`scope_hierarchy` says which scopes include which others. Changing it takes a key with the scope `*`. Tool "
    "calls older than `keep_calls_days` are deleted, within an hour or so of a change too.",
    request=OrganizationIn, bodies={"Rename": {"name": "Acme"}, "Keep calls": {"keep_calls_days": 90}},
    response=shapes.OrganizationOut, example=ORGANIZATION,
)  # fmt: skip
LIST_MEMBERS: Operation = operation(
    "list_members", "List members", tag=TAG, errors=(400, 404), parameters=PAGE_PARAMETERS,
    response=page_of("MemberPage", shapes.MemberOut), example=page_example(MEMBER),
)  # fmt: skip
ADD_MEMBER: Operation = operation(
    "add_member", "Add a member", tag=TAG, errors=(400, 409), status=201,
    words="They get an account without a password; pass `set_password_url` on to them. Somebody with an account in "
    "another organization is refused (`account_elsewhere`): only the operator can add them. Adding an admin takes a "
    "key with the scope `*`.",
    request=MemberIn, bodies={"Member": {"email": "ben@acme.example", "name": "Ben Okafor", "role": "member"}},
    response=shapes.AddedMemberOut,
    example={**MEMBER, "set_password_url": "https://aster.example.com/hub/set-password/Nw/c9x2-…/"},
)  # fmt: skip
GET_MEMBER: Operation = operation(
    "get_member", "Get a member", tag=TAG, errors=(404,), parameters=_MEMBER,
    response=shapes.MemberOut, example=MEMBER,
)  # fmt: skip
UPDATE_MEMBER: Operation = operation(
    "update_member", "Change a member's role", tag=TAG, errors=(400, 404, 409), parameters=_MEMBER,
    words="The last admin stays one (409). Making an admin takes a key with the scope `*`.",
    request=RoleIn, bodies={"Make admin": {"role": "admin"}},
    response=shapes.MemberOut, example={**MEMBER, "role": "admin"},
)  # fmt: skip
REMOVE_MEMBER: Operation = operation(
    "remove_member", "Remove a member", tag=TAG, errors=(404, 409), parameters=_MEMBER, status=204,
    words="Their API keys stop at once, and their connections are revoked. Anybody may leave; the last admin may not.",
)  # fmt: skip
LIST_API_KEYS: Operation = operation(
    "list_api_keys", "List API keys", tag=TAG, errors=(400, 404), parameters=PAGE_PARAMETERS,
    words="One's own; for admins, everybody's in the organization. Never the keys themselves.",
    response=page_of("ApiKeyPage", shapes.ApiKeyOut), example=page_example(API_KEY),
)  # fmt: skip
CREATE_API_KEY: Operation = operation(
    "create_api_key", "Create an API key", tag=TAG, errors=(400,), status=201,
    words=f"The key acts as its user, within its scopes, and never gives more than what it is made with:\n\n{_SCOPES}"
    "\n\nOther scopes are the organization's own. A key that connects or calls can be made by its owner alone.",
    request=ApiKeyIn, response=shapes.CreatedApiKeyOut,
    bodies={"For a script": {"name": "CI", "scopes": ["aster:call"], "expires_at": "2027-11-20T00:00:00Z"}},
    example={**API_KEY, "key": "ask_3f9a1c2b4d5e_…"},
)  # fmt: skip
GET_API_KEY: Operation = operation(
    "get_api_key", "Get an API key", tag=TAG, errors=(404,), parameters=_API_KEY,
    response=shapes.ApiKeyOut, example=API_KEY,
)  # fmt: skip
REVOKE_API_KEY: Operation = operation(
    "revoke_api_key", "Revoke an API key", tag=TAG, errors=(404,), parameters=_API_KEY, status=204,
    words="It stops at once and stays in the list.",
)  # fmt: skip
LIST_EVENTS: Operation = operation(
    "list_audit_events", "List audit events", tag=TAG, errors=(400, 404),
    words="Newest first: one's own; for admins, everybody's in the organization.",
    parameters=(
        *PAGE_PARAMETERS,
        filter_parameter("action", "Only this action, such as created, updated, deleted, connected."),
        filter_parameter("object_type", "Only objects of this kind, such as mcpserver."),
        filter_parameter("object_id", "Only the object with this id."),
        filter_parameter("via", f"Only changes that came this way: {', '.join(VIAS)}."),
    ),
    response=page_of("AuditEventPage", shapes.AuditEventOut), example=page_example(EVENT),
)  # fmt: skip
