"""The REST API of agents, their tools, and calls."""

from __future__ import annotations

from typing import Any, ClassVar

from asgiref.sync import async_to_sync
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from agents import api_docs as docs
from agents.bodies import save_from_body
from agents.models import Agent, LlmConfig
from agents.runtime.session import call_once, call_server
from agents.serializers import (
    AgentIn,
    LlmConfigIn,
    fill_llm_config,
    show_agent,
    show_agent_tool,
    show_approval,
    show_call,
    show_llm_config,
    show_scope_row,
)
from agents.services import agents, approvals, calls
from agents.services.explain import explain_access
from agents.services.scope_table import scope_rows
from agents.services.tool_pages import page_of_tools
from aster.accounts.access import CALL, MANAGE
from aster.accounts.models import is_row_id
from aster.api import CursorPages, LatestFirst, NewestFirst
from aster.api_bodies import check_slug
from aster.api_views import ActorView, no_content
from aster.errors import ConnectionRequired, InvalidInput, NotFound
from integrations.api import ServerView, with_links
from integrations.serializers import CallIn
from integrations.services import servers


class AgentView(ActorView):
    def agent(self, key: str) -> Agent:
        return agents.find_agent(key, actor=self.actor)

    def save(self, agent: Agent, values: dict[str, Any], status: int) -> Response:
        save_from_body(agent, values, actor=self.actor)
        return Response(show_agent(self.agent(str(agent.pk))), status=status)


class AgentList(AgentView):
    @extend_schema(**docs.LIST_AGENTS)
    def get(self, request: Request) -> Response:
        rows = Agent.objects.visible_to(self.actor).select_related("organization")
        return self.page(rows.prefetch_related("assignments__server", "tool_grants"), show_agent)

    @extend_schema(**docs.CREATE_AGENT)
    def post(self, request: Request) -> Response:
        return self.save(Agent(organization=self.actor.organization), self.read_change(AgentIn, request), 201)


class AgentDetail(AgentView):
    @extend_schema(**docs.GET_AGENT)
    def get(self, request: Request, key: str) -> Response:
        return Response(show_agent(self.agent(key)))

    @extend_schema(**docs.UPDATE_AGENT)
    def patch(self, request: Request, key: str) -> Response:
        return self.save(self.agent(key), self.read_change(AgentIn, request, partial=True), 200)

    @extend_schema(**docs.PUT_AGENT)
    def put(self, request: Request, key: str) -> Response:
        """Create the agent with this slug, or make it as the body says."""
        values = self.read_change(AgentIn, request)
        try:
            agent = self.agent(key)
        except NotFound:
            check_slug(key)
            return self.save(Agent(organization=self.actor.organization, slug=key), values, 201)
        return self.save(agent, values, 200)

    @extend_schema(**docs.DELETE_AGENT)
    def delete(self, request: Request, key: str) -> Response:
        agents.delete_agent(self.agent(key), actor=self.actor)
        return no_content()


class AgentTools(AgentView):
    @extend_schema(**docs.AGENT_TOOLS)
    def get(self, request: Request, key: str) -> Response:
        agent = self.agent(key)
        calls.learn_tools(agent, actor=self.actor)
        offered, size = calls.agent_tools(agent, actor=self.actor), CursorPages().get_page_size(request) or 1
        page, following = page_of_tools(offered, request.query_params.get("cursor"), size)
        here = request.build_absolute_uri()
        return Response(
            {
                "next": replace_query_param(here, "cursor", following) if following else None,
                "previous": None,
                "results": [show_agent_tool(tool) for tool in page],
            }
        )


class AgentScopes(AgentView):
    @extend_schema(**docs.AGENT_SCOPES)
    def get(self, request: Request, key: str) -> Response:
        rows = [show_scope_row(row) for row in scope_rows(self.agent(key))]
        return Response({"next": None, "previous": None, "results": rows})


class AgentExplain(AgentView):
    scopes: ClassVar = {"GET": MANAGE}

    @extend_schema(**docs.AGENT_EXPLAIN)
    def get(self, request: Request, key: str) -> Response:
        self.actor.require_admin()
        agent, asked = self.agent(key), request.query_params
        missing = {name: ["This parameter is required."] for name in ("email", "tool") if not asked.get(name)}
        key_id = asked.get("api_key_id")
        if key_id and not is_row_id(key_id):
            missing["api_key_id"] = ["Must be the id of an API key."]
        if missing:
            raise InvalidInput("Say whose access to which tool: ?email=…&tool=…", fields=missing)
        as_key = int(key_id) if key_id else None
        told = explain_access(asked["email"], agent, asked["tool"], actor=self.actor, key_id=as_key)
        return Response(told.as_json())


class AgentToolCall(AgentView):
    scopes: ClassVar = {"POST": CALL}

    @extend_schema(**docs.AGENT_CALL)
    def post(self, request: Request, key: str) -> Response:
        agent, body = self.agent(key), self.read(CallIn, request)
        try:
            result = async_to_sync(call_once)(agent, body["name"], body["arguments"], actor=self.actor)
        except ConnectionRequired as missing:
            server = servers.find_server(missing.extra["server_id"], actor=self.actor)
            raise with_links(missing, server, self) from None
        return Response({"result": result})


class ServerToolCall(ServerView):
    scopes: ClassVar = {"POST": CALL}

    @extend_schema(**docs.SERVER_CALL)
    def post(self, request: Request, key: str) -> Response:
        server, body = self.server(key), self.read(CallIn, request)
        try:
            result = async_to_sync(call_server)(server, body["name"], body["arguments"], actor=self.actor)
        except ConnectionRequired as missing:
            raise with_links(missing, server, self) from None
        return Response({"result": result})


class ApprovalList(ActorView):
    @extend_schema(**docs.LIST_APPROVALS)
    def get(self, request: Request) -> Response:
        rows = approvals.visible_approvals(self.actor)
        if request.query_params.get("waiting", "") not in ("", "false"):
            rows = rows.open()
        return self.page(rows, show_approval, LatestFirst)


class ApprovalDetail(ActorView):
    @extend_schema(**docs.GET_APPROVAL)
    def get(self, request: Request, pk: int) -> Response:
        return Response(show_approval(approvals.find_approval(pk, actor=self.actor)))


class ApprovalApprove(ActorView):
    @extend_schema(**docs.APPROVE)
    def post(self, request: Request, pk: int) -> Response:
        found = approvals.find_approval(pk, actor=self.actor)
        return Response(show_approval(approvals.approve(found, actor=self.actor)))


class ApprovalDeny(ActorView):
    @extend_schema(**docs.DENY)
    def post(self, request: Request, pk: int) -> Response:
        found = approvals.find_approval(pk, actor=self.actor)
        return Response(show_approval(approvals.deny(found, actor=self.actor)))


# --- Models and records ---------------------------------------------------------------------------------------------


class LlmConfigList(ActorView):
    @extend_schema(**docs.LIST_LLM_CONFIGS)
    def get(self, request: Request) -> Response:
        return self.page(agents.visible_llm_configs(self.actor), show_llm_config)

    @extend_schema(**docs.CREATE_LLM_CONFIG)
    def post(self, request: Request) -> Response:
        config = fill_llm_config(
            LlmConfig(organization=self.actor.organization), self.read_change(LlmConfigIn, request)
        )
        agents.save_llm_config(config, actor=self.actor)
        return Response(show_llm_config(config), status=201)


class LlmConfigDetail(ActorView):
    @extend_schema(**docs.GET_LLM_CONFIG)
    def get(self, request: Request, key: str) -> Response:
        return Response(show_llm_config(agents.find_llm_config(key, actor=self.actor)))

    @extend_schema(**docs.UPDATE_LLM_CONFIG)
    def patch(self, request: Request, key: str) -> Response:
        config = agents.find_llm_config(key, actor=self.actor)
        fill_llm_config(config, self.read_change(LlmConfigIn, request, partial=True))
        agents.save_llm_config(config, actor=self.actor)
        return Response(show_llm_config(config))

    @extend_schema(**docs.DELETE_LLM_CONFIG)
    def delete(self, request: Request, key: str) -> Response:
        agents.delete_llm_config(agents.find_llm_config(key, actor=self.actor), actor=self.actor)
        return no_content()


class ToolCallList(ActorView):
    @extend_schema(**docs.LIST_CALLS)
    def get(self, request: Request) -> Response:
        rows = self.choose(calls.visible_calls(self.actor), "outcome", "tool_name", "via")
        return self.page(rows, show_call, NewestFirst)
