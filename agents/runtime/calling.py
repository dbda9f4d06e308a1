"""The calls a model asks for: checked, made, and answered in words the model can do something with."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agents.models import CallOutcome
from agents.runtime.finding import FIND_TOOLS, SEARCH, Finding
from agents.runtime.history import MAX_ARGUMENTS, capped, result_text
from agents.runtime.session import AgentSession
from agents.schema_check import check_arguments
from agents.services.approvals import ApprovalRequired
from agents.services.calls import outcome_of
from agents.services.links import connect_link, connection_words
from aster.accounts.access import Actor
from aster.errors import AsterError, ConnectionRequired, InvalidInput
from aster.threads import in_db_thread


@dataclass(frozen=True)
class Asked:
    """A call as the model's entry `message` holds it. Arguments are a text when they were no JSON object."""

    message: int
    call_id: str
    name: str
    arguments: dict[str, Any] | str


class Calling:
    """The calls of one turn. Nothing that a model can do about is raised."""

    def __init__(
        self,
        session: AgentSession,
        finding: Finding,
        actor: Actor,
        tell: Callable[[str, dict[str, Any]], None],
        same_call: int,
    ) -> None:
        self.session, self.finding, self.actor, self.tell, self.same_call = session, finding, actor, tell, same_call
        self._made = Counter[tuple[str, str]]()
        self._announced = set[int]()

    async def announce_missing(self) -> list[str]:
        """Tell the person which connections the agent lacks, and return the names of their servers."""
        servers = {tool.server.pk: tool.server.name for tool in self.session.tools.values()}
        missing = {pk: error for pk, error in self.session.problems.items() if isinstance(error, ConnectionRequired)}
        for pk, error in missing.items():
            if pk in servers:
                await self._announce(pk, servers[pk], error)
        return [servers[pk] for pk in missing if pk in servers]

    async def _announce(self, server_id: int, name: str, missing: ConnectionRequired) -> str:
        url = await in_db_thread(connect_link, missing, self.actor)
        if server_id not in self._announced:
            self._announced.add(server_id)
            words = connection_words(name, again=missing.extra.get("status") != "not_connected")
            self.tell("banner", {"server": name, "text": words, "url": url})
        return url

    def only_reads(self, asked: Asked) -> bool:
        """Whether the tool says that it changes nothing. If it lies, calls of it may overlap, and nothing else."""
        found = self.session.tools.get(asked.name)
        return bool(found and found.tool and found.tool.annotations.get("readOnlyHint") is True)

    async def make(self, asked: Asked) -> dict[str, Any]:
        """Make one call and return the fields of the tool's entry: its text, for the model, and its facts."""
        found = self.session.tools.get(asked.name)
        definition = SEARCH if asked.name == FIND_TOOLS else found.tool.definition if found and found.tool else {}
        about = {
            "tool": asked.name,
            "title": str(definition.get("title") or asked.name),
            "server": found.server.name if found else "",
        }
        self.tell("call", {"message": asked.message, "call_id": asked.call_id, **about, "arguments": asked.arguments})
        began, text = time.monotonic(), ""
        facts: dict[str, Any] = {"title": about["title"], "server": about["server"], "code": "", "connect": ""}
        try:
            arguments = self._checked(asked, definition.get("inputSchema"))
            if asked.name == FIND_TOOLS:
                facts["outcome"], text = CallOutcome.OK, await in_db_thread(self._find, arguments)
            else:
                self.finding.take(asked.name)
                result = await self.session.call(asked.name, arguments)
                facts["outcome"], text = outcome_of(result, None), result_text(result)
        except AsterError as error:
            facts |= {"outcome": _outcome(error), "code": error.code}
            text = capped(f"{error.message} {getattr(error, 'hint', '')}".strip())
            if isinstance(error, ApprovalRequired):
                facts["approval"] = error.extra["approval_id"]
            if isinstance(error, ConnectionRequired) and found:
                facts["connect"] = await self._announce(found.server.pk, found.server.name, error)
                text += " The person is shown a link for it: ask them to use it and to tell you when it is done."
        facts["duration_ms"] = int((time.monotonic() - began) * 1000)
        facts["connection"] = await in_db_thread(self.session.connection_label, asked.name)
        return {"call_id": asked.call_id, "tool_name": asked.name, "text": text, "facts": facts}

    def _find(self, arguments: dict[str, Any]) -> str:
        return self.finding.find(arguments["query"], arguments.get("server", ""))

    def _checked(self, asked: Asked, schema: Any) -> dict[str, Any]:
        """The arguments, when they fit and the call is not one too many. What is unknown or off the session refuses."""
        arguments = asked.arguments
        if isinstance(arguments, str):
            words = f"The arguments are not a JSON object of at most {MAX_ARGUMENTS:,} characters. Nothing was called."
            raise InvalidInput(words, code="invalid_arguments")
        if problems := [
            f"{'.'.join(path)}: {words}".lstrip(": ") for path, words in check_arguments(schema, arguments)
        ]:
            words = f"The arguments do not fit the tool's schema. {' '.join(problems[:10])} Nothing was called."
            raise InvalidInput(words, code="invalid_arguments")
        key = (asked.name, json.dumps(arguments, sort_keys=True))
        self._made[key] += 1
        if self._made[key] > self.same_call:
            words = f"You made this same call {self.same_call} times already. Use those results, or do something else."
            raise InvalidInput(words, code="repeated_call")
        return arguments


def _outcome(error: AsterError) -> str:
    return CallOutcome.REFUSED if isinstance(error, InvalidInput) else outcome_of(None, error)
