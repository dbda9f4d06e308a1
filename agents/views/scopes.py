"""The Scopes tab: what callers must hold for each tool of an agent; and why somebody may call a tool or not."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET

from agents.models import Agent
from agents.services import agents, calls
from agents.services.explain import Explanation, explain_access
from agents.services.scope_table import ScopeRow, scope_rows
from agents.services.tool_scopes import change_scopes
from agents.views.agent_pages import agent_tabs
from aster.accounts.access import Actor, ActorRequest
from aster.accounts.models import Membership, is_row_id
from aster.accounts.services import find_api_key, visible_api_keys
from aster.errors import InvalidInput, NotFound
from aster.pages import hub_page

FIELD = "scopes-"
MOST_PEOPLE = 500


@dataclass(frozen=True)
class Line:
    """A row of the table with what stands in its field."""

    row: ScopeRow
    text: str

    @property
    def field(self) -> str:
        return FIELD + self.row.name

    @property
    def is_free(self) -> bool:
        return not (self.row.by_agent or self.row.by_server)


@hub_page
def edit_scopes(request: ActorRequest, slug: str) -> HttpResponse:
    agent = agents.find_agent(slug, actor=request.actor)
    if request.method != "POST":
        return _show(request, agent, {})
    request.actor.require_admin()
    posted = {name.removeprefix(FIELD): str(text) for name, text in request.POST.items() if name.startswith(FIELD)}
    strict = "strict_scopes" in request.POST
    if "fill" in request.POST:
        return _show(request, agent, posted, strict=strict, fill=True)
    changes = {name: text.replace(",", " ").split() for name, text in posted.items()}
    try:
        change_scopes(agent, changes, strict=strict, actor=request.actor)
    except InvalidInput as error:
        return _show(request, agent, posted, strict=strict, problem=error.message)
    messages.success(request, "Saved. It counts from the next call on.")
    return redirect("admin:agent-scopes", agent.slug)


def _show(
    request: ActorRequest,
    agent: Agent,
    posted: dict[str, str],
    *,
    strict: bool | None = None,
    fill: bool = False,
    problem: str = "",
) -> HttpResponse:
    """The table; with `fill`, proposals stand in the fields that were empty, and nothing is stored yet."""
    lines = []
    for row in scope_rows(agent):
        text = posted.get(row.name, " ".join(row.by_agent))
        if fill and not text.strip() and not row.by_server:
            text = " ".join(row.proposed)
        lines.append(Line(row, text))
    context = {
        "agent": agent,
        "tabs": agent_tabs(agent, "agent-scopes"),
        "lines": lines,
        "free": sum(line.is_free and line.row.is_offered for line in lines),
        "offered": sum(line.row.is_offered for line in lines),
        "strict": agent.strict_scopes if strict is None else strict,
        "filled": fill,
        "problem": problem,
    }
    return render(request, "agents/agent_scopes.html", context, status=400 if problem else 200)


@require_GET
@hub_page
def explain(request: ActorRequest, slug: str) -> HttpResponse:
    """For admins: pick somebody, signed in or with one of their keys, and a tool."""
    actor = request.actor
    actor.require_admin()
    agent = agents.find_agent(slug, actor=actor)
    who, tool = request.GET.get("who", ""), request.GET.get("tool", "").strip()
    known = [each for each in calls.known_tools(agent, agents.assigned_servers(agent)) if each.tool]
    context = {
        "agent": agent,
        "who": who or actor.person.email,
        "tool": tool,
        "people": _people(actor),
        "known": known,
        "is_listed": any(each.name == tool for each in known),
        "explanation": _explain(agent, who, tool, actor) if who and tool else None,
    }
    return render(request, "agents/explain.html", context)


def _people(actor: Actor) -> list[tuple[str, list[tuple[str, str]]]]:
    """Everybody with the ways in which they call: (name, [(value, words)])."""
    keys: dict[int, list[tuple[str, str]]] = {}
    for key in visible_api_keys(actor).in_state("active"):  # type: ignore[attr-defined]
        keys.setdefault(key.user_id, []).append((f"key:{key.pk}", f"with the key {key} ({key.hint})"))
    rows = Membership.objects.filter(organization=actor.organization).select_related("user").order_by("user__email")
    people = [row.user for row in rows[:MOST_PEOPLE]]
    return [(str(user), [(user.email, f"{user.email}, signed in"), *keys.get(user.pk, [])]) for user in people]


def _explain(agent: Agent, who: str, tool: str, actor: Actor) -> Explanation:
    kind, _, key = who.partition(":")
    if kind != "key":
        return explain_access(who, agent, tool, actor=actor)
    if not is_row_id(key):
        raise NotFound("There is no such API key.")
    email = find_api_key(int(key), actor=actor).user.email
    return explain_access(email, agent, tool, actor=actor, key_id=int(key))
