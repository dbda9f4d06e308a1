"""What A2A clients send, read from the JSON of either version and checked.

Fields have the names of the JSON binding (camelCase) or those of the protocol's own definition (snake_case): ProtoJSON
takes both, and so do the clients of 0.3 that exist.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from agents.a2a.refusals import CONTENT_TYPE_NOT_SUPPORTED, INVALID_REQUEST, PUSH_NOT_SUPPORTED, Refused, invalid
from agents.services.a2a_tasks import MAX_HISTORY, Sending

MAX_ID, MAX_PARTS = 200, 100
_CAPITAL = re.compile("[A-Z]")
NO_PUSH = "Push notifications are not supported. Follow the stream, or ask for the task again."


@dataclass(frozen=True)
class RpcRequest:
    """One JSON-RPC 2.0 request."""

    id: str | int
    method: str
    params: dict[str, Any]


@dataclass(frozen=True)
class SendRequest:
    """A message, and how its answer is wanted."""

    sending: Sending
    history: int
    waits: bool


def read_request(body: Any) -> RpcRequest:
    """Raises Refused with INVALID_REQUEST for what is no request."""
    if isinstance(body, list):
        raise Refused(INVALID_REQUEST, "Batches are not supported: send one request.")
    if not isinstance(body, dict) or body.get("jsonrpc") != "2.0" or not isinstance(body.get("method"), str):
        raise Refused(INVALID_REQUEST, 'Not a JSON-RPC 2.0 request: send {"jsonrpc": "2.0", "id", "method", "params"}.')
    if id_of(body) is None:
        raise Refused(INVALID_REQUEST, "The id must be a text or an integer.")
    params = body.get("params", {})
    if not isinstance(params, dict):
        raise invalid("params must be an object.")
    return RpcRequest(body["id"], body["method"], params)


def id_of(body: Any) -> str | int | None:
    """The id to answer with, as far as there is one."""
    found = body.get("id") if isinstance(body, dict) else None
    fits = isinstance(found, str | int) and not isinstance(found, bool) and len(str(found)) <= MAX_ID
    return found if fits else None


def get(source: dict[str, Any], name: str, kind: type | tuple[type, ...], default: Any) -> Any:
    """A field by its camelCase name or its snake_case one. Null is absent (ProtoJSON)."""
    value = source.get(name)
    if value is None:
        value = source.get(_CAPITAL.sub(lambda found: f"_{found[0].lower()}", name))
    if value is None:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise invalid(f"{name} has the wrong type.")
    return value


def read_id(source: dict[str, Any], name: str, *, required: bool = False) -> str:
    value = str(get(source, name, str, ""))
    if len(value) > MAX_ID or not value.isprintable():
        raise invalid(f"{name} must be at most {MAX_ID} printable characters.")
    if required and not value:
        raise invalid(f"{name} is missing.")
    return value


def read_history(source: dict[str, Any]) -> int:
    """How many of the last messages are wanted; without a word, as many as are kept."""
    wanted = int(get(source, "historyLength", int, MAX_HISTORY))
    if wanted < 0:
        raise invalid("historyLength must not be negative.")
    return min(wanted, MAX_HISTORY)


def read_send(params: dict[str, Any], *, is_old: bool) -> SendRequest:
    """The params of SendMessage (1.0), or of message/send (0.3, `is_old`)."""
    message = get(params, "message", dict, None)
    if message is None:
        raise invalid("message is missing.")
    if message.get("role") != ("user" if is_old else "ROLE_USER"):
        raise invalid(f"message.role must be {'user' if is_old else 'ROLE_USER'}.")
    text, given = _read_parts(get(message, "parts", list, []), is_old=is_old)
    sending = Sending(
        text,
        read_id(message, "messageId", required=True),
        read_id(message, "contextId"),
        read_id(message, "taskId"),
        given,
    )
    wanted = get(params, "configuration", dict, {})
    if get(wanted, "pushNotificationConfig" if is_old else "taskPushNotificationConfig", dict, None):
        raise Refused(PUSH_NOT_SUPPORTED, NO_PUSH)
    _require_text(get(wanted, "acceptedOutputModes", list, []))
    waits = get(wanted, "blocking", bool, True) if is_old else not get(wanted, "returnImmediately", bool, False)
    return SendRequest(sending, read_history(wanted), waits)


def _require_text(modes: list[Any]) -> None:
    if modes and not any(str(mode).startswith(("text", "*/*")) for mode in modes):
        raise Refused(CONTENT_TYPE_NOT_SUPPORTED, "The agent answers in text; accept text/plain as well.")


def _read_parts(parts: list[Any], *, is_old: bool) -> tuple[str, dict[str, Any]]:
    """What is said, and the values for the agent's input if there are any."""
    if not 0 < len(parts) <= MAX_PARTS:
        raise invalid(f"A message has 1 to {MAX_PARTS} parts.")
    texts: list[str] = []
    given: dict[str, Any] = {}
    for part in parts:
        kind, value = _read_part(part, is_old=is_old)
        if kind == "text" and isinstance(value, str):
            texts.append(value)
        elif kind == "data" and isinstance(value, dict):
            given |= value
        elif kind in ("text", "data"):
            raise invalid(f"A {kind} part must hold {'a text' if kind == 'text' else 'an object'}.")
        else:
            words = "The agent takes text, and data as its input; files are not taken."
            raise Refused(CONTENT_TYPE_NOT_SUPPORTED, words)
    return "\n\n".join(texts), given


def _read_part(part: Any, *, is_old: bool) -> tuple[str, Any]:
    if not isinstance(part, dict):
        raise invalid("Each part must be an object.")
    if is_old:
        kind = str(part.get("kind"))
        return kind, part.get(kind)
    kinds = [kind for kind in ("text", "data", "raw", "url") if kind in part]
    return (kinds[0], part[kinds[0]]) if len(kinds) == 1 else ("unknown", None)
