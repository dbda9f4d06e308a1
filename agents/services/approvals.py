"""Calls that need a person's word: who is asked for a tool, what they are asked, and what their answer lets through."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import transaction
from django.urls import reverse
from django.utils import timezone

from agents.models import Agent, Approval, ApprovalQuerySet, ApprovalStatus, Approver, ToolGrant
from agents.services.tool_scopes import namespaced
from aster.accounts import audit
from aster.accounts.access import MANAGE, Actor
from aster.errors import AsterError, Conflict, InvalidInput, NotAllowed, NotFound
from integrations.models import McpServer, Tool
from integrations.services.access import require_connection

if TYPE_CHECKING:  # calls asks this module about each call
    from agents.services.calls import AgentTool

# What one person's calls may leave waiting: a model that tries over and over must not bury the calls that matter.
MAX_WAITING = 50
APPROVAL_DENIED = "approval_denied"
KEPT = timedelta(days=30)
_ACTIONS = {ApprovalStatus.APPROVED: "approved", ApprovalStatus.DENIED: "denied"}


class ApprovalRequired(Conflict):
    """The call waits for a person. `approval` is what they decide; None if too many wait already."""

    code = "approval_required"

    def __init__(self, message: str, approval: Approval | None, url: str) -> None:
        super().__init__(message, extra={"approval_id": approval.pk if approval else None, "approval_url": url})
        # Holds the arguments; never logged.
        self.approval = approval
        self.url = url


# --- Who is asked ---------------------------------------------------------------------------------------------------


def set_approver(
    agent: Agent, server: McpServer, tool_name: str, approver: str, *, actor: Actor, ahead: bool = False
) -> None:
    """From now on have calls of this tool through `agent` wait for the caller's word, an admin's, or nobody's.

    What waits or was approved under another rule ends with it. `ahead`: any tool of a server that was never listed.
    """
    actor.require_admin()
    if approver not in Approver.values:
        raise InvalidInput("Choose who approves from the list.", fields={"approvals": ["Choose one from the list."]})
    with transaction.atomic():
        if Agent.objects.select_for_update().filter(pk=agent.pk).order_by("pk").first() is None:
            raise NotFound("There is no such agent.")
        rows = ToolGrant.objects.filter(agent=agent, server=server)
        grant = rows.filter(tool_name=tool_name).first()
        before = grant.approver if grant else Approver.NOBODY
        if before == approver:
            return
        # A tool that went away keeps its rule; one that never was cannot get one.
        assigned = agent.assignments.filter(server=server).exists()
        unlisted = ahead and server.tools_synced_at is None
        if grant is None and not (assigned and (unlisted or server.tools.filter(name=tool_name).exists())):
            message = f"{agent} has no tool {tool_name[:100]} at {server}."
            raise InvalidInput(message, fields={"approvals": [message]})
        rows.update_or_create(agent=agent, server=server, tool_name=tool_name, defaults={"approver": approver})
        rows.filter(is_enabled=True, approver=Approver.NOBODY).delete()
        asked = Approval.objects.filter(agent=agent, server=server, tool_name=tool_name)
        asked.filter(expires_at__gt=timezone.now()).exclude(approver=approver).update(expires_at=timezone.now())
        label = f"approver of {tool_name} at {server}"
        audit.record(actor, "set_approver", agent, {label: [before or "nobody", approver or "nobody"]})


def change_approvers(
    agent: Agent, changes: Mapping[McpServer, Mapping[str, str]], *, actor: Actor, ahead: bool = False
) -> None:
    """Set who approves calls of these tools, all or nothing; the others keep their rule."""
    with transaction.atomic():
        for server, rules in changes.items():
            for tool_name, approver in rules.items():
                set_approver(agent, server, tool_name, approver, actor=actor, ahead=ahead)


def replace_approvers(agent: Agent, wanted: Mapping[str, str], *, actor: Actor) -> None:
    """Make exactly these the rules of the agent's tools, named as it lists them or as SERVER:TOOL; all or nothing.

    The rules of a server that was taken away wait for its return, as its switches do.
    """
    actor.require_admin()
    with transaction.atomic():
        servers = {server.pk: server for server in McpServer.objects.filter(assignments__agent=agent)}
        before = {key: approver for key, approver in approvers(agent).items() if key[0] in servers}
        own_names = {*Tool.objects.filter(server__in=servers).values_list("server_id", "name"), *before}
        named = {namespaced(servers[pk], name): (pk, name) for pk, name in own_names}
        named |= {f"{servers[pk].slug}:{name}": (pk, name) for pk, name in own_names}
        if unknown := sorted(wanted.keys() - named.keys()):
            message = f"{agent} has no tool {unknown[0][:100]}."
            raise InvalidInput(message, fields={"approvals": [message]})
        after = {named[name]: approver for name, approver in wanted.items()}
        if len(after) < len(wanted):
            message = "A tool is in it twice, by both of its names."
            raise InvalidInput(message, fields={"approvals": [message]})
        for pk, name in sorted(before.keys() | after.keys()):
            set_approver(agent, servers[pk], name, after.get((pk, name), Approver.NOBODY), actor=actor)


def approvers(agent: Agent) -> dict[tuple[int, str], str]:
    """(server id, tool name) → who approves, for the tools whose calls wait for somebody."""
    grants = agent.tool_grants.exclude(approver=Approver.NOBODY)
    return {(pk, name): approver for pk, name, approver in grants.values_list("server_id", "tool_name", "approver")}


# --- One call -------------------------------------------------------------------------------------------------------


def digest_of(arguments: Mapping[str, Any]) -> str:
    """What makes two calls the same. As RFC 8785, but that 1 and 1.0 are two things: asking once more harms nobody."""
    text = json.dumps(arguments, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Leave:
    """What a call of a guarded tool spends an approval of when it goes out. Holds the arguments; never logged."""

    grant_id: int
    arguments: Mapping[str, Any] = field(repr=False)
    actor: Actor


def require_approval(agent: Agent, found: AgentTool, arguments: Mapping[str, Any], *, actor: Actor) -> Leave | None:
    """Refuse a call of a guarded tool that is not approved, and ask for that. Nothing is spent yet: see spend().

    Returns what spend() wants, or None if nobody has to approve. Raises ApprovalRequired, NotAllowed
    (`approval_denied`), or ConnectionRequired: nobody is asked about a call that could not go out.
    """
    if found.tool is None:
        return None
    grants = ToolGrant.objects.filter(agent=agent, server=found.server, tool_name=found.tool.name)
    pk = grants.exclude(approver=Approver.NOBODY).values_list("pk", flat=True).first()
    if pk is None:
        return None
    require_connection(found.server, actor)
    leave = Leave(pk, arguments, actor)
    _find_or_ask(leave, spends=False)
    return leave


def spend(leave: Leave) -> Approval | None:
    """Use an approval up, immediately before its call is sent. Returns it, or None if nobody has to approve any more.

    Should the process die afterwards, it stays spent: whether the call went out cannot be known then, and a person has
    to say again that it may. Raises ApprovalRequired or NotAllowed if another call was faster.
    """
    return _find_or_ask(leave, spends=True)


def give_back(spent: Approval) -> None:
    """Undo spend() for a call that surely was not sent. It expires when it would have."""
    # Compare-and-set: only who spent it gives it back, and once.
    mine = Approval.objects.filter(pk=spent.pk, status=ApprovalStatus.USED, used_at=spent.used_at)
    mine.update(status=ApprovalStatus.APPROVED, used_at=None)


def _find_or_ask(leave: Leave, *, spends: bool) -> Approval | None:
    with transaction.atomic():
        # Of identical calls at once, one asks and the others find what it asked.
        guarded = ToolGrant.objects.exclude(approver=Approver.NOBODY).filter(pk=leave.grant_id)
        grant = guarded.select_for_update().order_by("pk").first()
        found = _approved_or_refusal(grant, leave.arguments, leave.actor, spends) if grant else None
    if isinstance(found, AsterError):
        raise found
    return found


def _approved_or_refusal(
    grant: ToolGrant, arguments: Mapping[str, Any], actor: Actor, spends: bool
) -> Approval | AsterError:
    now = timezone.now()
    same: dict[str, Any] = {
        **{"agent": grant.agent, "server": grant.server, "tool_name": grant.tool_name, "user": actor.person},
        **{"digest": digest_of(arguments), "approver": grant.approver},
    }
    live = Approval.objects.filter(**same, expires_at__gt=now)
    for approved in live.filter(status=ApprovalStatus.APPROVED).order_by("pk"):
        if not spends:
            return approved
        # Compare-and-set: whoever moves it to USED makes the call, and nobody else does.
        used = {"status": ApprovalStatus.USED, "used_at": now}
        if live.filter(pk=approved.pk, status=ApprovalStatus.APPROVED).update(**used):
            approved.status, approved.used_at = ApprovalStatus.USED, now
            return approved
    if denied := live.filter(status=ApprovalStatus.DENIED).first():
        return _denied(denied, now)
    waiting = _with_names(live.filter(status=ApprovalStatus.PENDING)).order_by("pk").first()
    if waiting is None and Approval.objects.open().filter(user=actor.user, agent=grant.agent).count() >= MAX_WAITING:
        url = _address("admin:approvals", actor)
        return ApprovalRequired(f"{MAX_WAITING} of your calls wait already. Decide those first: {url}", None, url)
    if waiting is None:
        waiting = Approval.objects.create(
            **same, organization=actor.organization, arguments=dict(arguments), via=actor.via,
            created_at=now, expires_at=now + Approval.VALID,
        )  # fmt: skip
    return _required(waiting, actor)


def _required(approval: Approval, actor: Actor) -> ApprovalRequired:
    url = approval_url(approval.pk, actor)
    if approval.approver == Approver.CALLER:
        words = f"{approval.tool_name} needs your approval for this call. Open this link to see and approve it: {url}"
    else:
        words = f"{approval.tool_name} needs an admin's approval for this call. An admin approves it here: {url}"
    minutes = int(Approval.VALID.total_seconds() // 60)
    words = f"{words} – then make exactly the same call again; it expires {minutes} minutes after it was first made."
    return ApprovalRequired(words, approval, url)


def _denied(approval: Approval, now: datetime) -> NotAllowed:
    minutes = max(1, round((approval.expires_at - now).total_seconds() / 60))
    words = (
        f"{approval.decided_by or 'Somebody'} denied this call of {approval.tool_name}. Do not make it again as it is."
    )
    again = f"It can be asked for again in {minutes} minute{'' if minutes == 1 else 's'}."
    return NotAllowed(f"{words} {again}", code=APPROVAL_DENIED, extra={"approval_id": approval.pk})


def approval_url(approval_id: int, actor: Actor) -> str:
    """The page where a call that waits is judged."""
    return _address("admin:approval", actor, approval_id)


def _address(name: str, actor: Actor, *args: Any) -> str:
    return f"{settings.ASTER_PUBLIC_URL}{reverse(name, args=args)}?organization={actor.organization.slug}"


def readable(arguments: Mapping[str, Any]) -> str:
    """The arguments for a person to judge: complete, and with whatever would not be seen or turns text around (Unicode
    controls, other spaces) written as an escape."""
    text = json.dumps(arguments, indent=2, ensure_ascii=False)
    return "".join(each if each.isprintable() or each == "\n" else json.dumps(each)[1:-1] for each in text)


# --- Deciding -------------------------------------------------------------------------------------------------------


def find_approval(pk: int, *, actor: Actor) -> Approval:
    approval = _with_names(Approval.objects.visible_to(actor)).filter(pk=pk).first()
    if approval is None:
        raise NotFound("There is no such approval.")
    return approval


def visible_approvals(actor: Actor) -> ApprovalQuerySet:
    return _with_names(Approval.objects.visible_to(actor))


def _with_names(rows: ApprovalQuerySet) -> ApprovalQuerySet:
    return rows.select_related("agent", "server", "user", "decided_by", "organization")


def waiting_for(actor: Actor) -> ApprovalQuerySet:
    """What waits for this person's word: their own calls, and for admins the calls that need an admin."""
    rows = Approval.objects.visible_to(actor).open()
    own = rows.filter(approver=Approver.CALLER, user=actor.user)
    return own | rows.filter(approver=Approver.ADMIN) if actor.is_admin else own


def approve(approval: Approval, *, actor: Actor) -> Approval:
    """Let the same call through, once. Raises NotAllowed, or Conflict if it was decided or ended meanwhile."""
    require_decider(approval, actor)
    return _decide(approval, ApprovalStatus.APPROVED, actor)


def deny(approval: Approval, *, actor: Actor) -> Approval:
    """Refuse the same call until this expires."""
    require_decider(approval, actor)
    return _decide(approval, ApprovalStatus.DENIED, actor)


def answer(approval: Approval, accepted: bool, *, actor: Actor) -> Approval:
    """What the caller said to the question that their own MCP client showed them (form elicitation)."""
    if approval.approver != Approver.CALLER or approval.user_id != actor.person.pk:
        raise NotAllowed("This call waits for somebody else.")
    return _decide(approval, ApprovalStatus.APPROVED if accepted else ApprovalStatus.DENIED, actor)


def require_decider(approval: Approval, actor: Actor) -> None:
    """Admins decide, with a key only if it may manage; callers decide their own, where the rule of the tool says so.

    A caller decides in the browser: whoever holds a caller's key, a model's client above all, makes the calls with it.
    """
    if approval.organization_id != actor.organization.pk:
        raise NotFound("There is no such approval.")
    if actor.is_admin:
        actor.require_scope(MANAGE)
    elif approval.approver != Approver.CALLER or approval.user_id != actor.person.pk:
        raise NotAllowed("Only an admin of the organization can decide this. Ask one of them.")
    elif actor.api_key is not None or actor.via not in ("page", "api"):
        raise NotAllowed("Decide your own calls in your browser, signed in: an API key cannot.")
    actor.person  # noqa: B018  (Aster itself decides nothing)


def may_decide(approval: Approval, actor: Actor) -> bool:
    try:
        require_decider(approval, actor)
    except AsterError:
        return False
    return approval.is_open


def _decide(approval: Approval, status: ApprovalStatus, actor: Actor) -> Approval:
    now = timezone.now()
    with transaction.atomic():
        open_one = Approval.objects.filter(pk=approval.pk, status=ApprovalStatus.PENDING, expires_at__gt=now)
        # Compare-and-set: of two clicks the first one counts.
        if not open_one.update(status=status, decided_by=actor.person, decided_at=now):
            raise _too_late(approval)
        decided = _with_names(Approval.objects.filter(pk=approval.pk)).get()
        facts = {
            "status": ["pending", str(decided.status)],
            "agent": [None, str(decided.agent)],
            "tool": [None, f"{decided.tool_name} at {decided.server}"],
            "caller": [None, decided.user.email],
            "arguments (SHA-256)": [None, decided.digest],
        }
        audit.record(actor, _ACTIONS[status], decided, facts)
    return decided


def _too_late(approval: Approval) -> AsterError:
    now = _with_names(Approval.objects.filter(pk=approval.pk)).first()
    if now is None:
        return NotFound("There is no such approval.")
    if now.state == "expired":
        return Conflict("It has expired. Make the call again to ask anew.", code="approval_expired")
    done = "denied" if now.status == ApprovalStatus.DENIED else "approved"
    return Conflict(f"{now.decided_by or 'Somebody'} has {done} this already.", code="already_decided")


def delete_old() -> None:
    """Arguments are not kept for longer than somebody may want to look back at what they allowed."""
    Approval.objects.filter(expires_at__lt=timezone.now() - KEPT).delete()
