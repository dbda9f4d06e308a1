"""A call that waits for a person, answered in the form that the client's era understands (features G6).

2026-07-28, with form elicitation    the caller is shown the exact arguments; accepting approves, declining denies
a client that opens URLs             the link to the page of the approval, in the form of its era (see connecting)
everybody else, or an admin's word   a tool error whose text holds the link

Clients of the older eras would be asked by a request of ours in the middle of the call. The gateway keeps no session,
so that their answer could not find its way back; they get the link.
"""

from __future__ import annotations

import mcp_types as types
from django.core import signing
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from agents.gateway import connecting
from agents.gateway.connecting import Context
from agents.models import Approval, Approver
from agents.services import approvals
from agents.services.approvals import ApprovalRequired
from aster.accounts.access import Actor
from aster.errors import AsterError

FORM, PAGE = "approve", "approval_page"
# A client's dialog is no place to read more; and what is not read through must not be approved there.
MAX_SHOWN = 4000
_SALT = "aster.approval-asked"


def take_answer(params: types.CallToolRequestParams, actor: Actor) -> None:
    """Store what the person said to the form that an earlier answer held, if this is that answer.

    The state we sent with the form is signed for the caller: an approval nobody was asked for is none (MRTR, attacker
    input). Whatever is wrong with it, the call goes on and hears how its approval stands.
    """
    said = (params.input_responses or {}).get(FORM)
    if not isinstance(said, types.ElicitResult) or said.action not in ("accept", "decline"):
        return
    try:
        asked, caller = signing.loads(params.request_state or "", salt=_SALT, max_age=Approval.VALID)
        if caller == actor.person.pk:
            approvals.answer(approvals.find_approval(asked, actor=actor), said.action == "accept", actor=actor)
    except (signing.BadSignature, AsterError):
        return


def ask(
    ctx: Context, params: types.CallToolRequestParams, refused: ApprovalRequired, actor: Actor
) -> types.CallToolResult | types.InputRequiredResult:
    """The answer to a call that waits. Raises UrlElicitationRequiredError for clients of 2025-11-25 that open URLs."""
    approval = refused.approval
    answered = {FORM, PAGE} & (params.input_responses or {}).keys()
    if approval is None or approval.approver != Approver.CALLER or answered:
        return connecting.tool_error(refused.message)
    shown = _question(approval)
    if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS and declares_forms(ctx) and len(shown) <= MAX_SHOWN:
        form = types.ElicitRequestFormParams(message=shown, requested_schema={"type": "object", "properties": {}})
        return types.InputRequiredResult(
            result_type="input_required",
            input_requests={FORM: types.ElicitRequest(params=form)},
            request_state=signing.dumps([approval.pk, actor.person.pk], salt=_SALT),
        )
    words = f"{approval.tool_name} needs your approval for this call."
    return connecting.lead_to(ctx, PAGE, words, refused.url) or connecting.tool_error(refused.message)


def _question(approval: Approval) -> str:
    return (
        f"{approval.agent} wants to call {approval.tool_name} at {approval.server} with exactly these arguments:\n\n"
        f"{approvals.readable(approval.arguments)}\n\n"
        "Accept lets this one call through. Decline refuses it."
    )


def declares_forms(ctx: Context) -> bool:
    capabilities = ctx.session.client_capabilities
    elicitation = capabilities.elicitation if capabilities else None
    # An empty capability means forms (2026-07-28, Elicitation, Capabilities).
    return elicitation is not None and (elicitation.form is not None or elicitation.url is None)
