"""The Scopes tab: what callers must hold for each tool of an agent; and why somebody may call a tool or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from django.contrib import messages
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
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
from aster.paging import page_of_list, query_without

AGENT_FIELD, SERVER_FIELD = "scopes-", "server-"
MOST_PEOPLE = 500
# More tools are found by typing.
MOST_CHOICES = 100


@dataclass(frozen=True)
class Line:
    """A row of the table with what stands in its two fields."""

    row: ScopeRow
    posted: Mapping[str, str]
    fill: bool = False

    @property
    def field(self) -> str:
        return AGENT_FIELD + self.row.name

    @property
    def server_field(self) -> str:
        return f"{SERVER_FIELD}{self.row.server.pk}-{self.row.tool_name}" if self.row.server else ""

    @property
    def text(self) -> str:
        text = self.posted.get(self.field, " ".join(self.row.by_agent))
        wants = self.fill and not text.strip() and not self.server_text.strip()
        return " ".join(self.row.proposed) if wants else text

    @property
    def server_text(self) -> str:
        return self.posted.get(self.server_field, " ".join(self.row.by_server))

    @property
    def is_free(self) -> bool:
        return self.row.is_offered and not (self.row.by_agent or self.row.by_server)


@hub_page
def edit_scopes(request: ActorRequest, slug: str) -> HttpResponse:
    agent = agents.find_agent(slug, actor=request.actor)
    if request.method != "POST":
        return _show(request, agent)
    request.actor.require_admin()
    if "fill" in request.POST:
        return _show(request, agent, fill=True)
    through_agent, at_servers = _read(request.POST)
    strict = "strict_scopes" in request.POST
    try:
        change_scopes(agent, through_agent, strict=strict, at_servers=at_servers, actor=request.actor)
    except InvalidInput as error:
        return _show(request, agent, problem=error.message)
    messages.success(request, "Saved. It counts from the next call on.")
    here = reverse("admin:agent-scopes", args=[agent.slug])
    return redirect(f"{here}?{request.GET.urlencode()}" if request.GET else here)


def _read(posted: QueryDict) -> tuple[dict[str, list[str]], dict[int, dict[str, list[str]]]]:
    """What was entered: by the agent's names, and by server id and the server's names."""
    through_agent: dict[str, list[str]] = {}
    at_servers: dict[int, dict[str, list[str]]] = {}
    for field, text in posted.items():
        scopes = str(text).replace(",", " ").split()
        if field.startswith(AGENT_FIELD):
            through_agent[field.removeprefix(AGENT_FIELD)] = scopes
        elif field.startswith(SERVER_FIELD):
            server, _, name = field.removeprefix(SERVER_FIELD).partition("-")
            if is_row_id(server):
                at_servers.setdefault(int(server), {})[name] = scopes
    return through_agent, at_servers


def _show(request: ActorRequest, agent: Agent, *, fill: bool = False, problem: str = "") -> HttpResponse:
    """A page of the table with what was entered; with `fill`, proposals stand in its empty fields. Nothing is stored.

    The form is posted to the address of its page, search included: what is not shown is left alone.
    """
    posted = {name: str(text) for name, text in request.POST.items()}
    rows, words = scope_rows(agent), request.GET.get("q", "").strip()[:100]
    page = page_of_list(request, [row for row in rows if _fits(row, words)])
    lines = [Line(row, posted, fill) for row in page]
    listed = {row.server.pk for row in rows if row.server}
    servers = agents.assigned_servers(agent, with_tools=False)
    context = {
        "agent": agent,
        "tabs": agent_tabs(agent, "agent-scopes"),
        "lines": lines,
        "page": page,
        "total": len(rows),
        "q": words,
        "query": query_without(request),
        "here": request.get_full_path(),
        "free": sum(Line(row, {}).is_free for row in rows),
        "offered": sum(row.is_offered for row in rows),
        "unlisted": [server for server in servers if server.pk not in listed],
        "strict": "strict_scopes" in posted if posted else agent.strict_scopes,
        "filled": fill,
        "problem": problem,
    }
    return render(request, "agents/agent_scopes.html", context, status=400 if problem else 200)


def _fits(row: ScopeRow, words: str) -> bool:
    text = f"{row.name} {row.tool_name} {row.server or ''} {' '.join((*row.by_agent, *row.by_server))}".lower()
    return all(word in text for word in words.lower().split())


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
        "is_long": len(known) > MOST_CHOICES,
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
