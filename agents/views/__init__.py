"""The Control Hub's pages about agents: what they may use, trying their tools, and the record of calls."""

from __future__ import annotations

from django.urls import URLPattern, path

from agents.views import (
    agent_pages,
    agent_tools,
    approvals,
    calls,
    changed_tools,
    chat,
    llm_configs,
    playground,
    schedules,
    scopes,
    usage,
)

urlpatterns: list[URLPattern] = [
    path("agents/", agent_pages.list_agents, name="agents"),
    path("agents/add/", agent_pages.add_agent, name="agent-add"),
    path("agent/<slug:slug>/", agent_pages.edit_agent, name="agent"),
    path("agent/<slug:slug>/tools/", agent_tools.edit_tools, name="agent-tools"),
    path("agent/<slug:slug>/tools/<int:server_id>/", agent_tools.edit_server_tools, name="agent-server-tools"),
    path("agent/<slug:slug>/scopes/", scopes.edit_scopes, name="agent-scopes"),
    path("agent/<slug:slug>/explain/", scopes.explain, name="agent-explain"),
    path("agent/<slug:slug>/use/", agent_pages.show_use, name="agent-use"),
    path("agent/<slug:slug>/calls/", calls.show_agent_calls, name="agent-calls"),
    path("agent/<slug:slug>/chat/", chat.new_chat, name="agent-chat"),
    path("agent/<slug:slug>/chat/<int:pk>/", chat.show_chat, name="agent-conversation"),
    path("agent/<slug:slug>/chat/<int:pk>/thread/", chat.show_thread, name="agent-conversation-thread"),
    path("agent/<slug:slug>/chat/<int:pk>/stop/", chat.stop_chat, name="agent-conversation-stop"),
    path("agent/<slug:slug>/chat/<int:pk>/delete/", chat.delete_chat, name="agent-conversation-delete"),
    path("agent/<slug:slug>/delete/", agent_pages.delete_agent, name="agent-delete"),
    path("changed-tools/", changed_tools.list_changes, name="changed-tools"),
    path("changed-tools/<int:pk>/accept/", changed_tools.accept_change, name="changed-tool-accept"),
    path("changed-tools/accept/<slug:slug>/", changed_tools.accept_all, name="changed-tools-accept"),
    path("playground/", playground.playground, name="playground"),
    path("approvals/", approvals.list_approvals, name="approvals"),
    path("approvals/<int:pk>/", approvals.show_approval, name="approval"),
    path("approvals/<int:pk>/approve/", approvals.approve_call, name="approval-approve"),
    path("approvals/<int:pk>/deny/", approvals.deny_call, name="approval-deny"),
    path("llm-configs/", llm_configs.list_configs, name="llm-configs"),
    path("llm-configs/add/", llm_configs.add_config, name="llm-config-add"),
    path("llm-configs/<int:pk>/", llm_configs.edit_config, name="llm-config"),
    path("llm-configs/<int:pk>/delete/", llm_configs.delete_config, name="llm-config-delete"),
    path("schedules/", schedules.list_tasks, name="schedules"),
    path("schedules/add/", schedules.add_task, name="schedule-add"),
    path("schedules/<int:pk>/", schedules.show_task, name="schedule"),
    path("schedules/<int:pk>/edit/", schedules.edit_task, name="schedule-edit"),
    path("schedules/<int:pk>/switch/", schedules.switch_task, name="schedule-switch"),
    path("schedules/<int:pk>/run/", schedules.run_task, name="schedule-run"),
    path("schedules/<int:pk>/delete/", schedules.delete_task, name="schedule-delete"),
    path("activity/calls/", calls.show_calls, name="activity-calls"),
    path("activity/usage/", usage.show_usage, name="activity-usage"),
    path("activity/calls/export/", calls.export_calls, name="activity-calls-export"),
]
