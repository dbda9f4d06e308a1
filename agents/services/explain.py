"""Why somebody may call a tool or not: the rules of a call, asked one by one and told in words.

Each step asks the very rule a call is held against and keeps its refusal, so that the two cannot disagree. Nothing is
changed, nobody outside is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from agents.models import Agent, Approver, ToolGrant
from agents.services import tool_scopes
from agents.services.calls import AgentTool, require_agent_on, require_tool_on, tool_behind
from agents.services.tool_scopes import namespaced, needed_scopes
from aster.accounts.access import CALL, Actor, find_actor
from aster.accounts.models import ApiKey, User
from aster.accounts.services import find_api_key
from aster.errors import AsterError, NotFound
from integrations.models import AuthType, Connection, McpServer
from integrations.services.access import require_connection
from integrations.services.servers import require_enabled

TITLES = {
    "member": "Person",
    "key": "API key",
    "agent": "Agent",
    "tool": "Tool",
    "server": "MCP server",
    "switch": "Switch",
    "definition": "Definition",
    "scopes": "Scopes",
    "approval": "Approval",
    "connection": "Connection",
}
STATUSES = ("ok", "warning", "failed", "skipped")
NOT_REACHED = "Not looked at: an earlier step failed."


@dataclass(frozen=True)
class Step:
    """One rule: what was found, and what to do about it. `code` is what a call would be refused with here."""

    name: str
    status: str
    found: str
    advice: str = ""
    code: str = ""

    @property
    def title(self) -> str:
        return TITLES[self.name]

    def as_json(self) -> dict[str, Any]:
        names = ("name", "title", "status", "found", "advice", "code")
        return {name: getattr(self, name) for name in names}


@dataclass
class Explanation:
    """Every step in the order of a call, and what they come to."""

    person: str
    agent: Agent
    tool: str
    key: ApiKey | None = None
    label: str = ""
    steps: list[Step] = field(default_factory=list)

    @property
    def blocker(self) -> Step | None:
        return next((step for step in self.steps if step.status == "failed"), None)

    @property
    def allowed(self) -> bool:
        return self.blocker is None

    @property
    def verdict(self) -> str:
        who = f"{self.person} with the key {self.key}" if self.key else self.person
        what = f"{self.label or self.tool} through {self.agent}"
        if self.blocker:
            return f"{who} cannot call {what}: {self.blocker.found}"
        asks = (
            " once it is approved"
            if any(step.name == "approval" and step.status == "warning" for step in self.steps)
            else ""
        )
        return f"{who} can call {what}{asks}."

    @property
    def advice(self) -> str:
        return self.blocker.advice if self.blocker else ""

    def as_json(self) -> dict[str, Any]:
        return {
            "person": self.person,
            "api_key": self.key.name if self.key else None,
            "agent": self.agent.slug,
            "tool": self.tool,
            "allowed": self.allowed,
            "verdict": self.verdict,
            "advice": self.advice,
            "code": self.blocker.code if self.blocker else "",
            "steps": [step.as_json() for step in self.steps],
        }


def explain_access(email: str, agent: Agent, tool: str, *, actor: Actor, key_id: int | None = None) -> Explanation:
    """Explain to an admin whether the person may call `tool` through `agent`: signed in, or with one of their keys.

    `tool` is the name the agent lists, or SERVER:TOOL. Whether an address has an account elsewhere is not told.
    """
    actor.require_admin()
    person = User.objects.filter(email__iexact=email, is_active=True).first()
    caller = find_actor(person, actor.organization.pk, via="page") if person else None
    if person is None or caller is None or caller.organization != actor.organization:
        words = f"{email[:254]} is not a member of {actor.organization}, or may not sign in."
        failed = Step("member", "failed", words, "Add them on the Members page.", "not_allowed")
        return _skipping(Explanation(email, agent, tool, steps=[failed]))
    explanation = Explanation(person.email, agent, tool)
    role = "an admin" if caller.is_admin else "a member"
    explanation.steps.append(Step("member", "ok", f"{person} is {role} of {caller.organization}."))
    if key_id is not None:
        caller = _with_key(explanation, caller, _key_of(person, key_id, actor))
    _Walk(explanation, caller).go()
    return _skipping(explanation)


def _key_of(person: User, key_id: int, actor: Actor) -> ApiKey:
    key = find_api_key(key_id, actor=actor)
    if key.user_id != person.pk:
        raise NotFound(f"{person.email} has no such API key.")
    return key


def _with_key(explanation: Explanation, caller: Actor, key: ApiKey) -> Actor:
    explanation.key = key
    scopes = frozenset(key.scopes)
    limited = Actor(caller.organization, caller.user, caller.role, via="api", scopes=scopes, api_key=key)
    if (state := key.state()) != "active":
        step = Step("key", "failed", f"The key {key} is {state}.", "Make a new one.", "authentication_failed")
    else:
        held = "everything its owner may do" if "*" in scopes else ", ".join(sorted(scopes))
        advice = f"Make a key with {CALL}, or with a scope for tools."
        step = _asked("key", lambda: limited.require_scope(CALL), f"The key {key} holds {held}.", advice)
    explanation.steps.append(step)
    return limited


def _skipping(explanation: Explanation) -> Explanation:
    done = {step.name for step in explanation.steps}
    wanted = [name for name in TITLES if name != "key" or explanation.key]
    explanation.steps += [Step(name, "skipped", NOT_REACHED) for name in wanted if name not in done]
    explanation.steps.sort(key=lambda step: list(TITLES).index(step.name))
    return explanation


def _asked(name: str, rule: Callable[[], object], found: str, advice: str = "") -> Step:
    """The step of a rule: `found` when it has nothing against the call, else its own refusal."""
    try:
        rule()
    except AsterError as refusal:
        return Step(name, "failed", refusal.message, advice, refusal.code)
    return Step(name, "ok", found)


class _Walk:
    """The steps from the agent on, for one caller. Later ones are asked too when an earlier one has failed."""

    def __init__(self, explanation: Explanation, caller: Actor) -> None:
        self.explanation, self.agent, self.caller = explanation, explanation.agent, caller
        self.steps = explanation.steps

    def go(self) -> None:
        agent = self.agent
        advice = "Switch it on, on its General page."
        self.steps.append(_asked("agent", lambda: require_agent_on(agent), f"{agent} is on.", advice))
        name = self._offered_name(self.explanation.tool)
        found = tool_behind(agent, name)
        if found is None:
            self.steps.append(self._unknown(name))
            return
        self.steps.append(
            Step("tool", "ok", f"{found.name} is {found.tool or 'the link to connect'} of {found.server}.")
        )
        self.explanation.label = f"{found.tool or found.name} of {found.server}"
        advice = "Switch it on, on the server's page."
        self.steps.append(
            _asked("server", lambda: require_enabled(found.server), f"{found.server} is on and assigned.", advice)
        )
        advice = "Switch it on, on the agent's Tools page."
        words = f"{found.tool or found.name} is switched on for {agent}."
        self.steps.append(_asked("switch", lambda: require_tool_on(agent, found), words, advice))
        self.steps += [self._definition(found), self._scopes(found), self._approval(found), self._connection(found)]

    def _offered_name(self, name: str) -> str:
        slug, _, own = name.partition(":")
        server = McpServer.objects.visible_to(self.caller).filter(slug=slug).first() if own else None
        return namespaced(server, own) if server else name

    def _unknown(self, name: str) -> Step:
        """Where a tool of that name is instead."""
        words, advice = f"{self.agent} has no tool called {name[:100]}.", "Check the name on the agent's Use it page."
        for server in McpServer.objects.visible_to(self.caller):
            for own, gone_at in server.tools.values_list("name", "gone_at"):
                if namespaced(server, own) != name:
                    continue
                if gone_at:
                    words, advice = f"{server} does not offer {own} any more.", "Ask whoever runs the server."
                else:
                    words = f"{own} belongs to {server}, which is not assigned to {self.agent}."
                    advice = "Assign the server on the agent's Tools page."
        return Step("tool", "failed", words, advice, "unknown_tool")

    def _definition(self, found: AgentTool) -> Step:
        if found.tool and found.tool.is_quarantined:
            words = f"{found.server} changed {found.tool}, and nobody has looked at the change yet."
            return Step("definition", "failed", words, "Look at it on the server's page.", "tool_quarantined")
        return Step("definition", "ok", "As it was when it was taken in.")

    def _scopes(self, found: AgentTool) -> Step:
        needed = needed_scopes(self.agent, found)
        asked = [
            f"{who} asks for {', '.join(scopes)}"
            for who, scopes in ((str(found.server), needed.by_server), (str(self.agent), needed.by_agent))
            if scopes
        ]
        held = self._held(needed.scopes)
        words = f"{'; '.join(asked)}. {held}" if asked else "No scopes are needed."
        advice = "Give them a key with these scopes, or change the tool's scopes on the agent's Scopes page."
        if not asked:
            advice = "Give the tool scopes on the agent's Scopes page, or switch “only tools with scopes” off there."
        rule = tool_scopes.require_scopes
        return _asked("scopes", lambda: rule(self.agent, found, actor=self.caller), words, advice)

    def _held(self, needed: list[str]) -> str:
        """What the caller holds of it; for a person, which of their keys do not."""
        if self.caller.api_key:
            return f"The key {self.caller.api_key} holds {', '.join(sorted(self.caller.scopes))}."
        words = "Who is signed in to the hub holds every scope."
        keys = ApiKey.objects.usable().filter(organization=self.caller.organization, user=self.caller.user)
        limited = [Actor(self.caller.organization, None, "", scopes=frozenset(key.scopes), api_key=key) for key in keys]
        lacking = [str(each.api_key) for each in limited if not all(map(each.holds, needed))]
        return f"{words} Not enough for it: the key {', the key '.join(lacking[:10])}." if lacking else words

    def _approval(self, found: AgentTool) -> Step:
        grants = ToolGrant.objects.filter(agent=self.agent, server=found.server)
        grant = grants.filter(tool_name=found.tool.name).first() if found.tool else None
        if grant is None or grant.approver == Approver.NOBODY:
            return Step("approval", "ok", "Nobody has to approve its calls.")
        who = "the person who calls" if grant.approver == Approver.CALLER else "an admin"
        words = f"Every call waits until {who} approves it, with exactly its arguments."
        return Step(
            "approval", "warning", words, "The first call answers with the link to approve it.", "approval_required"
        )

    def _connection(self, found: AgentTool) -> Step:
        server, auth = found.server, found.server.auth_config
        if auth is None or auth.auth_type == AuthType.NONE:
            return Step("connection", "ok", f"{server} wants no sign-in.")
        if not auth.is_oauth:
            return Step("connection", "ok", f"With the credentials of {auth}, which everybody shares.")
        try:
            connection = require_connection(server, self.caller)
        except AsterError as refusal:
            advice = f"They connect at {server} themselves, or open the link that a call answers with."
            return Step("connection", "failed", refusal.message, advice, refusal.code)
        return self._connected(connection)

    def _connected(self, connection: Connection | None) -> Step:
        if connection is None:
            return Step("connection", "ok", "With the organization's own token, which the first call gets.")
        words = f"With the token of {connection}: {connection.get_status_display().lower()}."
        if connection.wanted_scopes:
            wanted = ", ".join(connection.wanted_scopes)
            advice = f"Connecting again asks for {wanted}, which a tool wanted."
            return Step("connection", "warning", words, advice)
        return Step("connection", "ok", words)
