"""The REST API of conversations: say something to an agent and follow its answer, read, stop, delete."""

from __future__ import annotations

from typing import Any, ClassVar

from asgiref.sync import async_to_sync
from django.http import StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request
from rest_framework.response import Response

from agents import api_chat_docs as docs
from agents.api import AgentView
from agents.models import Agent, Conversation
from agents.runtime import turns
from agents.serializers import MessageIn, show_conversation, show_message
from agents.services import conversations
from aster.accounts.access import CALL
from aster.api import CursorPages, LatestFirst
from aster.api_views import ActorView, no_content


class LastChangedFirst(CursorPages):
    ordering = ("-updated_at", "-id")


class AnyAccept(BaseContentNegotiation):
    """Clients of event streams accept nothing else; refusals are JSON all the same."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return next(iter(parsers), None)

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type


class AgentMessages(AgentView):
    scopes: ClassVar = {"POST": CALL}
    content_negotiation_class = AnyAccept

    @extend_schema(**docs.SEND_MESSAGE)
    def post(self, request: Request, key: str) -> HttpResponseBase:
        return send_message(self.agent(key), self.read(MessageIn, request), self)


def send_message(agent: Agent, body: dict[str, Any], view: ActorView) -> HttpResponseBase:
    """Say what `body` says, and answer with the stream of what happens, or with its end."""
    given = {"conversation": body.get("conversation"), "input": body.get("input")}
    conversation, message = conversations.say(agent, body["text"], view.actor, **given)
    if view.request.query_params.get("stream") != "0":
        return event_stream(turns.as_stream(conversation, actor=view.actor))
    _, end = async_to_sync(turns.to_end)(conversation, actor=view.actor)
    said = [show_message(row) for row in conversations.answer_to(message)]
    shown = {"conversation": conversation.pk, "state": end["state"], "error": end["error"], "messages": said}
    return Response(shown)


def event_stream(content: Any) -> StreamingHttpResponse:
    """An answer that nothing on the way may hold back or keep."""
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingHttpResponse(content, content_type="text/event-stream", headers=headers)


class AgentConversations(AgentView):
    @extend_schema(**docs.LIST_AGENT_CONVERSATIONS)
    def get(self, request: Request, key: str) -> Response:
        rows = conversations.visible_conversations(self.actor, self.agent(key))
        return self.page(rows, show_conversation, LastChangedFirst)


class ConversationList(ActorView):
    @extend_schema(**docs.LIST_CONVERSATIONS)
    def get(self, request: Request) -> Response:
        return self.page(conversations.visible_conversations(self.actor), show_conversation, LastChangedFirst)


class ConversationView(ActorView):
    scopes: ClassVar = {"POST": CALL, "DELETE": CALL}

    def conversation(self, key: str) -> Conversation:
        return conversations.find_conversation(key, actor=self.actor)


class ConversationDetail(ConversationView):
    @extend_schema(**docs.GET_CONVERSATION)
    def get(self, request: Request, key: str) -> Response:
        conversation = self.conversation(key)
        said = [show_message(row) for row in conversations.last_messages(conversation)]
        return Response({**show_conversation(conversation), "messages": said})

    @extend_schema(**docs.DELETE_CONVERSATION)
    def delete(self, request: Request, key: str) -> Response:
        conversations.delete(self.conversation(key), actor=self.actor)
        return no_content()


class ConversationMessages(ConversationView):
    @extend_schema(**docs.LIST_MESSAGES)
    def get(self, request: Request, key: str) -> Response:
        return self.page(self.conversation(key).messages.all(), show_message, LatestFirst)


class ConversationStop(ConversationView):
    @extend_schema(**docs.STOP_CONVERSATION)
    def post(self, request: Request, key: str) -> Response:
        conversation = self.conversation(key)
        conversations.stop(conversation, actor=self.actor)
        return Response(show_conversation(conversation))
