"""What the OpenAPI document says about each operation on conversations."""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse

from agents import api_shapes as shapes
from agents.serializers import MessageIn
from agents.services.conversations import LAST_MESSAGES
from aster.openapi import (
    PAGE_PARAMETERS,
    ErrorOut,
    Operation,
    key_parameter,
    operation,
    page_example,
    page_of,
    refusal,
)

CHAT = "Chat"
_AGENT = (key_parameter("agent"),)
_CONVERSATION = (key_parameter("conversation", slug=False),)

CONVERSATION: dict[str, Any] = {
    **{"id": 41, "agent_id": 5, "title": "What did we note about Acme?", "input": {}, "is_running": False},
    **{"created_at": "2026-11-20T09:30:00Z", "updated_at": "2026-11-20T09:30:04Z"},
}
_BLANK: dict[str, Any] = {
    **{"at": "2026-11-20T09:30:00Z", "state": "complete", "text": "", "calls": [], "call_id": "", "tool_name": ""},
    **{"error": "", "facts": {}, "input_tokens": 0, "output_tokens": 0},
}
_CALL = {"id": "call_1", "name": "acme_notes_12__search_notes", "arguments": {"query": "Acme"}}
_ASKED = {**_BLANK, "id": 100, "author": "user", "text": "What did we note about Acme?"}
_ANSWER = [
    {**_BLANK, "id": 101, "author": "assistant", "calls": [_CALL], "input_tokens": 310, "output_tokens": 24},
    {
        **_BLANK, "id": 102, "author": "tool", "text": "Acme: renew in May", "call_id": "call_1",
        "tool_name": _CALL["name"],
        "facts": {
            "title": "Search notes", "server": "Acme Notes", "outcome": "ok", "code": "", "duration_ms": 120,
            "connection": "Ada at Acme ID", "connect": "",
        },
    },
    {
        **_BLANK, "id": 103, "author": "assistant", "text": "Acme renews in May.", "input_tokens": 350,
        "output_tokens": 9,
    },
]  # fmt: skip
_STREAM = (
    'event: conversation\ndata: {"id": 41}\n\n'
    'event: call\ndata: {"message": 101, "call_id": "call_1", "tool": "acme_notes_12__search_notes", "title": '
    '"Search notes", "server": "Acme Notes", "arguments": {"query": "Acme"}}\n\n'
    'event: result\ndata: {"message": 102, "call_id": "call_1", "tool": "acme_notes_12__search_notes", "outcome": '
    '"ok", "code": "", "duration_ms": 120, "connection": "Ada at Acme ID", "text": "Acme: renew in May"}\n\n'
    'event: text\ndata: {"message": 103, "text": "Acme renews in May."}\n\n'
    'event: end\ndata: {"message": 103, "state": "complete", "error": ""}\n\n'
)
_RUNNING = {"code": "turn_running", "detail": "The agent is still answering. Wait for the answer, or stop it."}
_NO_MODEL = {
    "code": "no_model",
    "detail": "My agent has no model to think with. An admin can choose an LLM config on the agent's page.",
}
_DISABLED = {"code": "agent_disabled", "detail": "My agent is switched off. An admin can switch it on."}

SEND_MESSAGE: Operation = operation(
    "send_message", "Say something to an agent", tag=CHAT, errors=(400, 404),
    words="The agent's model answers, with the caller's own connections behind its tools. The answer is a stream of "
    "events: `conversation` (first), `text`, `call`, `result`, `banner` (a connection is missing, with the `url` to "
    "make it) and `end` (last, once; its `state` is complete, stopped or failed, with the `error` in words). Lines "
    "that begin with a colon keep the stream open. With `?stream=0` the answer is JSON, sent when the turn is over. "
    "The turn goes on when the client goes away; `POST conversations/{id}/stop` ends it.",
    parameters=(
        *_AGENT,
        OpenApiParameter("stream", str, description="`0`: JSON instead of a stream of events.", enum=["0", "1"]),
    ),
    refusals={
        409: refusal(
            ErrorOut,
            "The agent is still answering, has no model, or is switched off.",
            {
                "Still answering": {**_RUNNING, "fields": {}},
                "No model": {**_NO_MODEL, "fields": {}},
                "Switched off": {**_DISABLED, "fields": {}},
            },
        )
    },
    request=MessageIn,
    bodies={
        "A new conversation": {"text": "What did we note about Acme?"},
        "Go on": {"text": "And about Globex?", "conversation": 41},
    },
    response=shapes.AnswerOut,
    example={"conversation": 41, "state": "complete", "error": "", "messages": _ANSWER},
)  # fmt: skip
SEND_MESSAGE["responses"][(200, "text/event-stream")] = OpenApiResponse(
    OpenApiTypes.STR,
    description="Say something to an agent",
    examples=[OpenApiExample("Events", value=_STREAM, response_only=True, media_type="text/event-stream")],
)
LIST_AGENT_CONVERSATIONS: Operation = operation(
    "list_agent_conversations", "List one's conversations with an agent", tag=CHAT, errors=(400, 404),
    words="The latest first.", parameters=(*_AGENT, *PAGE_PARAMETERS),
    response=page_of("AgentConversationPage", shapes.ConversationOut), example=page_example(CONVERSATION),
)  # fmt: skip
LIST_CONVERSATIONS: Operation = operation(
    "list_conversations", "List one's conversations", tag=CHAT, errors=(400, 404),
    words="With all agents, the latest first.", parameters=PAGE_PARAMETERS,
    response=page_of("ConversationPage", shapes.ConversationOut), example=page_example(CONVERSATION),
)  # fmt: skip
GET_CONVERSATION: Operation = operation(
    "get_conversation", "Get a conversation", tag=CHAT, errors=(404,), parameters=_CONVERSATION,
    words=f"With the last {LAST_MESSAGES} messages, in their order; `GET conversations/{{id}}/messages` has all. "
    "Another person's conversation does not exist, not even for admins.",
    response=shapes.ConversationWithMessagesOut, example={**CONVERSATION, "messages": [_ASKED, *_ANSWER]},
)  # fmt: skip
LIST_MESSAGES: Operation = operation(
    "list_messages", "List the messages of a conversation", tag=CHAT, errors=(400, 404),
    words="Everything said in it, the latest first: by the person, the model and the tools.",
    parameters=(*_CONVERSATION, *PAGE_PARAMETERS),
    response=page_of("MessagePage", shapes.MessageOut), example=page_example(_ANSWER[-1]),
)  # fmt: skip
DELETE_CONVERSATION: Operation = operation(
    "delete_conversation", "Delete a conversation", tag=CHAT, errors=(404,), parameters=_CONVERSATION, status=204,
    words="An answer that is being made ends.",
)  # fmt: skip
STOP_CONVERSATION: Operation = operation(
    "stop_conversation", "Stop an answer", tag=CHAT, errors=(404,), parameters=_CONVERSATION,
    words="The agent notices within a second; what it said so far stays. When it is not answering, nothing happens.",
    response=shapes.ConversationOut, example=CONVERSATION,
)  # fmt: skip
