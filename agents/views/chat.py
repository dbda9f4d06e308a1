"""Chats: one's conversations with an agent, and one of them.

The pages are whole without JavaScript: a message is a POST that is answered once the agent has. With it (chat.js) the
answer is streamed from the API, and what is drawn stays what the server draws: `show_thread`.
"""

from __future__ import annotations

from typing import Any

from asgiref.sync import async_to_sync
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from agents.models import Agent, Conversation
from agents.runtime import turns
from agents.schema_form import ArgumentsForm
from agents.services import agents, calls, conversations
from agents.services.links import connection_words, waiting_for_person
from agents.views.agent_pages import agent_tabs
from agents.views.chat_thread import Thread, thread_of
from aster.accounts.access import Actor, ActorRequest, admins_of
from aster.errors import AsterError, InvalidInput
from aster.pages import add_errors, ask_first, flash_error, hub_page
from aster.paging import page_of, query_without
from integrations.models import McpServer

MANY_TOOLS = 8
KEPT_TEXT, MAX_KEPT = "chat_text", 50_000


@hub_page
def new_chat(request: ActorRequest, slug: str) -> HttpResponse:
    """Where a conversation begins: what the agent can do, its input if it takes one, and earlier conversations."""
    agent = agents.find_agent(slug, actor=request.actor)
    form = None
    if agent.input_json_schema:
        form = ArgumentsForm(agent.input_json_schema, request.POST if request.method == "POST" else None)
    if request.method == "POST" and form is None:
        return _say(request, agent, request.POST.get("text", ""))
    if request.method == "POST" and form and form.is_valid() and (begun := _begin(request, agent, form)):
        return redirect(_url_of(begun))
    mine = page_of(request, conversations.visible_conversations(request.actor, agent), 10)
    context = _page(request.actor, agent) | _kept_text(request)
    context |= _tools(request.actor, agent) | {"form": form, "page": mine, "query": query_without(request)}
    return render(request, "agents/chat_new.html", context, status=400 if form and form.errors else 200)


def _begin(request: ActorRequest, agent: Agent, form: ArgumentsForm) -> Conversation | None:
    """A new conversation with its input, or None with the reason in the form."""
    try:
        return conversations.start_conversation(agent, request.actor, form.arguments)
    except InvalidInput as error:
        add_errors(form, error)
        return None


@hub_page
def show_chat(request: ActorRequest, slug: str, pk: int) -> HttpResponse:
    conversation = _find(request.actor, slug, pk)
    if request.method == "POST":
        return _say(request, conversation.agent, request.POST.get("text", ""), conversation)
    context = _page(request.actor, conversation.agent, conversation) | _kept_text(request)
    return render(request, "agents/chat.html", context)


@require_GET
@hub_page
def show_thread(request: ActorRequest, slug: str, pk: int) -> HttpResponse:
    """What was said, for a page that shows it already."""
    conversation = _find(request.actor, slug, pk)
    return render(request, "agents/_chat_thread.html", _page(request.actor, conversation.agent, conversation))


@require_POST
@hub_page
def stop_chat(request: ActorRequest, slug: str, pk: int) -> HttpResponse:
    conversations.stop(_find(request.actor, slug, pk), request.actor)
    return redirect("admin:agent-conversation", slug, pk)


@hub_page
def delete_chat(request: ActorRequest, slug: str, pk: int) -> HttpResponse:
    conversation = _find(request.actor, slug, pk)
    if request.method == "POST":
        conversations.delete(conversation, request.actor)
        messages.success(request, "The conversation was deleted.")
        return redirect("admin:agent-chat", slug)
    return ask_first(
        request,
        "Delete this conversation?",
        f"“{conversation}” and all that was said in it will be gone. This cannot be undone.",
        parent=(_url_of(conversation), str(conversation)),
        items=["What the agent did with its tools stays done.", "The record of its calls stays in the activity."],
        confirm_text="Delete conversation",
    )


def _find(actor: Actor, slug: str, pk: int) -> Conversation:
    return conversations.find_conversation(pk, actor=actor, agent=agents.find_agent(slug, actor=actor))


def _url_of(conversation: Conversation) -> str:
    return reverse("admin:agent-conversation", args=[conversation.agent.slug, conversation.pk])


def _say(request: ActorRequest, agent: Agent, text: str, conversation: Conversation | None = None) -> HttpResponse:
    """Say it, wait for the answer, and show the conversation. What could not be said stays in the composer."""
    try:
        said, _ = conversations.say(agent, text, request.actor, conversation=conversation.pk if conversation else None)
    except AsterError as error:
        flash_error(request, error)
        request.session[KEPT_TEXT] = text[:MAX_KEPT]
        return redirect(_url_of(conversation) if conversation else reverse("admin:agent-chat", args=[agent.slug]))
    async_to_sync(turns.to_end)(said, actor=request.actor)
    return redirect(_url_of(said))


def _kept_text(request: ActorRequest) -> dict[str, str]:
    return {"text": request.session.pop(KEPT_TEXT, "")}


def _page(actor: Actor, agent: Agent, conversation: Conversation | None = None) -> dict[str, Any]:
    """What both pages show around the thread."""
    here = _url_of(conversation) if conversation else reverse("admin:agent-chat", args=[agent.slug])
    return {
        "agent": agent,
        "tabs": agent_tabs(agent, "agent-chat"),
        "conversation": conversation,
        "thread": thread_of(conversation, actor) if conversation else Thread([]),
        "banners": _banners(actor, agent),
        "here": here,
        "base_url": reverse("admin:agent-chat", args=[agent.slug]),
        "can_answer": agent.is_enabled and agent.llm_config_id is not None,
        "admins": [] if agent.llm_config_id else admins_of(agent.organization)[:3],
    }


def _tools(actor: Actor, agent: Agent) -> dict[str, Any]:
    """What the agent can do for this person: the first few of its tools."""
    calls.learn_tools(agent, actor=actor)
    known = [each for each in calls.agent_tools(agent) if each.tool]
    return {"tools": known[:MANY_TOOLS], "more_tools": max(0, len(known) - MANY_TOOLS)}


def _banners(actor: Actor, agent: Agent) -> list[tuple[McpServer, str, str]]:
    """The servers of the agent that wait for this person, each with the words for it and their tone."""
    # What was never connected is a step to take; what was lost is trouble.
    waiting = waiting_for_person(agent, actor)
    return [(each, connection_words(each, again=again), "error" if again else "info") for each, again in waiting]
