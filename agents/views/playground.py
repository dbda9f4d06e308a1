"""The playground: any tool, without a model. Addresses say what is chosen (GET); running is a POST.

Everybody tries the tools of agents; admins, who set servers up, those of servers too.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from asgiref.sync import async_to_sync
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone

from agents.models import Agent, ToolCall
from agents.runtime.session import call_once, call_server
from agents.schema_form import ArgumentsForm
from agents.services import agents, calls
from agents.services.approvals import ApprovalRequired, may_decide
from agents.services.calls import visible_calls
from agents.views.results import Block, describe_size, result_blocks, result_size, text_block
from aster.accounts.access import Actor, ActorRequest
from aster.errors import AsterError, ConnectionRequired, NotFound
from aster.form_fields import JsonObjectField
from aster.pages import hub_page, is_htmx
from aster.paging import page_of_list, query_without
from integrations.models import McpServer, Tool
from integrations.services.catalogue import tools_of
from integrations.services.servers import find_server, learn_tools

MAX_SHARED = 4000
# A sign-in remembers an address of up to 500 characters; longer arguments wait in the session, once.
MAX_RETURN, MAX_KEPT = 500, 100_000
KEPT = "playground_arguments"


@dataclass(frozen=True)
class Offer:
    """A tool to choose. `tool` is None where somebody has to connect before the tools are known."""

    name: str
    server: McpServer
    tool: Tool | None

    @classmethod
    def of(cls, offered: calls.AgentTool) -> Offer:
        return cls(offered.name, offered.server, offered.tool)


@dataclass(frozen=True)
class Source:
    """Where the tools come from: an agent (with its switches and names), or a server directly."""

    kind: str
    through: Agent | McpServer
    offers: list[Offer]

    @property
    def query(self) -> dict[str, str]:
        return {self.kind: self.through.slug}

    @property
    def url(self) -> str:
        return f"{reverse('admin:playground')}?{urlencode(self.query)}"

    def url_of(self, offer: Offer, arguments: dict[str, Any] | None = None) -> str:
        query = {**self.query, "tool": offer.name}
        if arguments and len(text := json.dumps(arguments, ensure_ascii=False, separators=(",", ":"))) <= MAX_SHARED:
            query["arguments"] = text
        return f"{reverse('admin:playground')}?{urlencode(query)}"

    def find(self, name: str, actor: Actor) -> Offer:
        """The tool of that name, also one that is switched off or has changed: running it says so, as everywhere."""
        if isinstance(self.through, Agent):
            return Offer.of(calls.find_tool(self.through, name, actor=actor))
        tool = tools_of(self.through).filter(name=name).first()
        if tool is None:
            raise NotFound(f"{self.through} has no tool called {name[:100]}.")
        return Offer(tool.name, self.through, tool)


@dataclass
class Run:
    """How one call went, for the page."""

    arguments: dict[str, Any]
    blocks: list[Block] = field(default_factory=list)
    structured: Any = None
    raw: Block | None = None
    size: str = ""
    is_error: bool = False
    error: AsterError | None = None
    connect_url: str = ""
    duration_ms: int = 0
    record: ToolCall | None = None
    at: Any = field(default_factory=timezone.now)

    @property
    def waits_at(self) -> str:
        """Where the approval is given that this call waits for."""
        return self.error.url if isinstance(self.error, ApprovalRequired) else ""

    @property
    def status(self) -> tuple[str, str]:
        if isinstance(self.error, ConnectionRequired):
            return "info", "Connection required"
        if isinstance(self.error, ApprovalRequired):
            return "info", "Approval required"
        if self.error:
            return "error", "Failed"
        return ("warn", "Tool error") if self.is_error else ("ok", "Succeeded")


@hub_page
def playground(request: ActorRequest) -> HttpResponse:
    if through := request.GET.get("through"):
        kind, _, slug = through.partition(":")
        name = "agent" if kind == "agent" else "server"
        return redirect(f"{reverse('admin:playground')}?{urlencode({name: slug})}")
    source = _find_source(request)
    if source is None:
        return render(request, "agents/playground_empty.html")
    if not request.GET.get("tool"):
        return _show_tools(request, source)
    offer = source.find(request.GET["tool"], request.actor)
    if offer.tool is None:
        return redirect(_connect_url(offer.server, source.url))
    return _show_tool(request, source, offer, offer.tool)


def _find_source(request: ActorRequest) -> Source | None:
    """What the address names; without a name the first agent, or else the first server, that the person can use."""
    actor = request.actor
    if slug := request.GET.get("agent"):
        return _agent_source(agents.find_agent(slug, actor=actor), actor)
    if slug := request.GET.get("server"):
        return _server_source(find_server(slug, actor=actor), actor)
    if agent := Agent.objects.usable_by(actor).select_related("organization").first():
        return _agent_source(agent, actor)
    server = _servers_to_try(actor).select_related("auth_config", "organization").first()
    return _server_source(server, actor) if server else None


def _servers_to_try(actor: Actor) -> QuerySet[McpServer]:
    return McpServer.objects.usable_by(actor) if actor.is_admin else McpServer.objects.none()


def _agent_source(agent: Agent, actor: Actor) -> Source:
    calls.learn_tools(agent, actor=actor)
    return Source("agent", agent, [Offer.of(each) for each in calls.agent_tools(agent, actor=actor)])


def _server_source(server: McpServer, actor: Actor) -> Source:
    calls.require_direct_calls(actor)
    learn_tools([server], actor=actor)
    return Source("server", server, [Offer(tool.name, server, tool) for tool in tools_of(server).offered()])


def _connect_url(server: McpServer, back_to: str) -> str:
    return f"{reverse('admin:server-connect', args=[server.slug])}?{urlencode({'next': back_to})}"


def _show_tools(request: ActorRequest, source: Source) -> HttpResponse:
    words = request.GET.get("q", "").strip()[:100]
    found = [offer for offer in source.offers if _fits(offer, words)]
    page = page_of_list(request, found)
    groups: dict[int, dict[str, Any]] = {}
    for offer in page:
        group = groups.setdefault(offer.server.pk, {"server": offer.server, "offers": [], "connect_url": ""})
        if offer.tool is None:
            group["connect_url"] = _connect_url(offer.server, source.url)
        else:
            group["offers"].append((offer, source.url_of(offer)))
    context = {
        "source": source,
        "groups": list(groups.values()),
        "q": words,
        "page": page,
        "query": query_without(request),
        "count": sum(offer.tool is not None for offer in found),
        "agents": Agent.objects.usable_by(request.actor),
        "servers": _servers_to_try(request.actor),
        "chosen": f"{source.kind}:{source.through.slug}",
    }
    return render(request, "agents/playground.html", context)


def _fits(offer: Offer, words: str) -> bool:
    """A server that waits for a sign-in is no tool: a search does not find it."""
    if offer.tool is None:
        return not words
    text = f"{offer.name} {offer.tool.title} {offer.tool.description}".lower()
    return all(word in text for word in words.lower().split())


def _show_tool(request: ActorRequest, source: Source, offer: Offer, tool: Tool) -> HttpResponse:
    arguments, raw = _shared_arguments(request, source.url_of(offer))
    form = ArgumentsForm(tool.input_schema, arguments=arguments)
    raw_problem, run = "", None
    if request.method == "POST":
        if "raw" in request.POST:
            raw = request.POST["raw"]
            arguments, raw_problem = _parse_raw(raw)
            form = ArgumentsForm(tool.input_schema, arguments=arguments)
        else:
            form = ArgumentsForm(tool.input_schema, request.POST)
            arguments = form.arguments if form.is_valid() else None
        if arguments is not None and not raw_problem:
            run = _run(request.actor, source, offer, arguments)
        if run and isinstance(run.error, ConnectionRequired):
            run.connect_url = _connect_and_return(request, source, offer, run.arguments)
    context = {
        "source": source,
        "offer": offer,
        "tool": tool,
        "form": form,
        "run": run,
        "run_url": source.url_of(offer),
        # The arguments as they were run, for "Run again" with not a character changed.
        "again": json.dumps(run.arguments, ensure_ascii=False) if run and run.waits_at else "",
        "may_decide": bool(run and run.waits_at and _may_decide(run, request.actor)),
        "share_url": request.build_absolute_uri(source.url_of(offer, arguments)) if run and arguments else "",
        "raw": raw if raw is not None else json.dumps(arguments or {}, indent=2, ensure_ascii=False),
        "raw_problem": raw_problem,
        # What the fields cannot show must be seen somewhere.
        "raw_open": bool(raw_problem) or "raw" in request.POST or not form.covers(arguments or {}),
    }
    template = "agents/_playground_run.html" if is_htmx(request) else "agents/playground_tool.html"
    return render(request, template, context)


def _may_decide(run: Run, actor: Actor) -> bool:
    waiting = run.error.approval if isinstance(run.error, ApprovalRequired) else None
    return waiting is None or may_decide(waiting, actor)


def _shared_arguments(request: ActorRequest, url: str) -> tuple[dict[str, Any] | None, str | None]:
    """The arguments in the address, if there are any that make sense, or those kept while the person connected."""
    text = request.GET.get("arguments", "")[:MAX_KEPT]
    if request.method == "GET" and (kept := request.session.pop(KEPT, None)) and kept["url"] == url:
        text = text or kept["arguments"]
    if not text:
        return None, None
    arguments, problem = _parse_raw(text)
    return (None, text) if problem else (arguments, None)


def _connect_and_return(request: ActorRequest, source: Source, offer: Offer, arguments: dict[str, Any]) -> str:
    """Where to connect, so that the person comes back to this tool with these arguments."""
    plain, back_to = source.url_of(offer), source.url_of(offer, arguments)
    if len(back_to) > MAX_RETURN or (arguments and back_to == plain):
        back_to, text = plain, json.dumps(arguments, ensure_ascii=False)
        if len(text) <= MAX_KEPT:
            request.session[KEPT] = {"url": back_to, "arguments": text}
    return _connect_url(offer.server, back_to)


def _parse_raw(text: str) -> tuple[dict[str, Any] | None, str]:
    try:
        return JsonObjectField(required=False).clean(text), ""
    except ValidationError as error:
        return None, str(error.messages[0])


def _run(actor: Actor, source: Source, offer: Offer, arguments: dict[str, Any]) -> Run:
    run, started = Run(arguments), time.monotonic()
    try:
        if isinstance(source.through, Agent):
            result = async_to_sync(call_once)(source.through, offer.name, arguments, actor=actor)
        else:
            result = async_to_sync(call_server)(source.through, offer.name, arguments, actor=actor)
    except AsterError as error:
        run.error = error
    else:
        run.blocks, run.structured = result_blocks(result), result.get("structuredContent")
        run.is_error = bool(result.get("isError"))
        run.raw = text_block("Whole answer", json.dumps(result, ensure_ascii=False))
        run.size = describe_size(result_size(result))
    run.duration_ms = int((time.monotonic() - started) * 1000)
    if actor.request_id:
        run.record = visible_calls(actor).filter(request_id=actor.request_id).first()
    return run
