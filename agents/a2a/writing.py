"""Tasks and what happens to them, in the JSON of A2A 1.0 (ProtoJSON, §4) or 0.3 (§6, §7)."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

from django.utils import timezone

from agents.models import TaskState
from agents.services.a2a_tasks import Said, TaskView

# There is one: the agent's answer to the last message.
ARTIFACT, ARTIFACT_NAME = "answer", "Answer"


def stamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Writer:
    """A2A 1.0."""

    is_old = False

    # What differs

    def state(self, state: TaskState) -> str:
        return f"TASK_STATE_{state.value.upper().replace('-', '_')}"

    def role(self, *, is_person: bool) -> str:
        return "ROLE_USER" if is_person else "ROLE_AGENT"

    def text(self, text: str) -> dict[str, Any]:
        return {"text": text, "mediaType": "text/plain"}

    def data(self, data: dict[str, Any]) -> dict[str, Any]:
        return {"data": data, "mediaType": "application/json"}

    def kind(self, kind: str) -> dict[str, Any]:
        """What an object says it is; in 1.0 the place where it stands says that."""
        return {}

    def event(self, name: str, content: dict[str, Any]) -> dict[str, Any]:
        """The result of a send, or of one event of a stream."""
        return {name: content}

    # What both have

    def task(self, view: TaskView, *, with_artifacts: bool = True) -> dict[str, Any]:
        shown: dict[str, Any] = {"id": view.id, "contextId": view.context_id, "status": self._status_of(view)}
        if with_artifacts and view.answer:
            shown["artifacts"] = [self._artifact(view.answer)]
        if view.history:
            shown["history"] = [self._said(view, each) for each in view.history]
        if view.links:
            shown["metadata"] = {"links": view.links}
        return {**shown, **self.kind("task")}

    def sent(self, view: TaskView) -> dict[str, Any]:
        return self.event("task", self.task(view))

    def status_update(self, view: TaskView) -> dict[str, Any]:
        """How the task stands now. The last one of a stream says so in 0.3 (`final`)."""
        update = {"taskId": view.id, "contextId": view.context_id, "status": self._status_of(view)}
        if view.links:
            update["metadata"] = {"links": view.links}
        final = {"final": not view.is_working} if self.is_old else {}
        return self.event("statusUpdate", {**update, **final, **self.kind("status-update")})

    def progress(self, view: TaskView, words: str, key: str) -> dict[str, Any]:
        """That it is worked on, and what is being done."""
        message = self._message(view, f"{key}-of-{view.id}", [self.text(words)])
        status = {"state": self.state(TaskState.WORKING), "message": message, "timestamp": stamp(timezone.now())}
        update = {"taskId": view.id, "contextId": view.context_id, "status": status}
        final = {"final": False} if self.is_old else {}
        return self.event("statusUpdate", {**update, **final, **self.kind("status-update")})

    def answer_update(self, view: TaskView, text: str, *, append: bool) -> dict[str, Any]:
        """A piece of the answer; not `append` is its beginning, and takes the place of an earlier answer."""
        update = {"taskId": view.id, "contextId": view.context_id, "artifact": self._artifact(text), "append": append}
        return self.event("artifactUpdate", {**update, **self.kind("artifact-update")})

    def _status_of(self, view: TaskView) -> dict[str, Any]:
        status: dict[str, Any] = {"state": self.state(view.state), "timestamp": stamp(view.at)}
        if view.words:
            parts = [self.text(view.words)]
            if view.links:
                parts.append(self.data({"links": view.links}))
            status["message"] = self._message(view, f"status-{view.at.timestamp():.3f}-of-{view.id}", parts)
        return status

    def _artifact(self, text: str) -> dict[str, Any]:
        return {"artifactId": ARTIFACT, "name": ARTIFACT_NAME, "parts": [self.text(text)]}

    def _said(self, view: TaskView, said: Said) -> dict[str, Any]:
        return self._message(view, said.id, [self.text(said.text)], is_person=said.is_person)

    def _message(
        self, view: TaskView, message_id: str, parts: list[dict[str, Any]], *, is_person: bool = False
    ) -> dict[str, Any]:
        ids = {"messageId": message_id, "taskId": view.id, "contextId": view.context_id}
        return {**ids, "role": self.role(is_person=is_person), "parts": parts, **self.kind("message")}


class OldWriter(Writer):
    """A2A 0.3."""

    is_old = True

    def state(self, state: TaskState) -> str:
        return state.value

    def role(self, *, is_person: bool) -> str:
        return "user" if is_person else "agent"

    def text(self, text: str) -> dict[str, Any]:
        return {"kind": "text", "text": text}

    def data(self, data: dict[str, Any]) -> dict[str, Any]:
        return {"kind": "data", "data": data}

    def kind(self, kind: str) -> dict[str, Any]:
        return {"kind": kind}

    def event(self, name: str, content: dict[str, Any]) -> dict[str, Any]:
        return content


# --- Places in a list -----------------------------------------------------------------------------------------------


def page_token(at: datetime, task_id: str) -> str:
    return base64.urlsafe_b64encode(f"{at.isoformat()} {task_id}".encode()).decode().rstrip("=")


def read_page_token(token: str) -> tuple[datetime, str]:
    """Raises ValueError for one that is none of ours."""
    text = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
    at, _, task_id = text.partition(" ")
    found = datetime.fromisoformat(at)
    if found.tzinfo is None:
        raise ValueError(token)
    return found, task_id
