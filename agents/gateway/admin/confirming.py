"""A person's yes before something is removed, asked for in the form that the client's era understands.

2026-07-28, with form elicitation    the person is shown what goes; accepting removes it, whatever the model has said
everybody else                       the call is refused with what goes, until it names it once more as `confirm`
"""

from __future__ import annotations

import hashlib

import mcp_types as types
from django.core import signing
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from agents.gateway import connecting
from agents.gateway.approving import declares_forms
from agents.gateway.connecting import Context
from aster.accounts.access import Actor
from aster.mcp_admin.tools import Question

FORM = "confirm"
VALID_SECONDS = 600
_SALT = "aster.admin-asked"
Asked = types.CallToolResult | types.InputRequiredResult


def unless_confirmed(
    ctx: Context, params: types.CallToolRequestParams, question: Question, actor: Actor
) -> Asked | None:
    """The answer to a call that nobody has said yes to; None to go on."""
    if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS or not declares_forms(ctx):
        return _unless_named(params, question)
    said = (params.input_responses or {}).get(FORM)
    if isinstance(said, types.ElicitResult) and _is_answer(params, question, actor):
        if said.action == "accept":
            return None
        return connecting.tool_error("Your person did not agree. Nothing was changed; do not try again unasked.")
    form = types.ElicitRequestFormParams(message=question.words, requested_schema={"type": "object", "properties": {}})
    return types.InputRequiredResult(
        result_type="input_required",
        input_requests={FORM: types.ElicitRequest(params=form)},
        request_state=signing.dumps(_sealed(params, question, actor), salt=_SALT),
    )


def _unless_named(params: types.CallToolRequestParams, question: Question) -> Asked | None:
    if (params.arguments or {}).get("confirm") == question.confirm:
        return None
    return connecting.tool_error(
        f"{question.words} Nothing was changed yet. Ask your person; if they agree, repeat the call with confirm set "
        f"to {question.confirm}."
    )


def _is_answer(params: types.CallToolRequestParams, question: Question, actor: Actor) -> bool:
    """Whether the answer is this caller's, to this very question: what was not shown was not agreed to (MRTR, attacker
    input)."""
    try:
        state = signing.loads(params.request_state or "", salt=_SALT, max_age=VALID_SECONDS)
    except signing.BadSignature:
        return False
    return bool(state == _sealed(params, question, actor))


def _sealed(params: types.CallToolRequestParams, question: Question, actor: Actor) -> list[object]:
    asked = "\n".join((params.name, str(question.about), question.words))
    return [actor.person.pk, actor.organization.pk, hashlib.sha256(asked.encode()).hexdigest()]
