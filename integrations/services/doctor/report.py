"""What one run of the doctor found, as values: to be stored, shown and read back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

OK, WARNING, FAILED, SKIPPED = "ok", "warning", "failed", "skipped"
STATUSES = (OK, WARNING, FAILED, SKIPPED)
# How a fix is made: by Aster at the press of a button, by copying a value, by signing in, or by hand in the settings.
APPLY, COPY, CONNECT, EDIT = "apply", "copy", "connect", "edit"
# By an admin only: what a member is shown of a fix that is not theirs to make.
ASK = "ask"
FIX_KINDS = (APPLY, COPY, CONNECT, EDIT, ASK)

# What depends on who ran it
PERSONAL = ("token", "session", "tools")

TITLES = {
    "url": "Address",
    "dial": "Reaching the server",
    "answer": "Answer without a sign-in",
    "resource_metadata": "Who protects the server",
    "provider_metadata": "The sign-in provider",
    "client": "Aster's client at the provider",
    "token": "Sign-in",
    "session": "MCP handshake",
    "tools": "Tools",
}


@dataclass(frozen=True)
class Evidence:
    """One thing that was asked or read, and the exact words that came back."""

    url: str = ""
    status: int | None = None
    words: str = ""


@dataclass(frozen=True)
class Fix:
    """Something that would help. `value` is what to copy; the id of what Aster does itself may carry a choice."""

    id: str
    kind: str
    text: str
    label: str = ""
    value: str = ""


@dataclass(frozen=True)
class Step:
    name: str
    status: str
    found: str
    advice: str = ""
    evidence: tuple[Evidence, ...] = ()
    fixes: tuple[Fix, ...] = ()

    @property
    def title(self) -> str:
        return TITLES.get(self.name, self.name)

    def fixes_with(self, verb: str) -> list[Fix]:
        """The fixes of one kind, whatever they would choose."""
        return [fix for fix in self.fixes if fix.id.partition(":")[0] == verb]

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "title": self.title, "evidence": _dicts(self.evidence), "fixes": _dicts(self.fixes)}

    def with_texts(self, change: Callable[[str], str]) -> Step:
        """The same step with every text that is shown passed through `change`; ids of fixes stay."""
        evidence = (replace(each, url=change(each.url), words=change(each.words)) for each in self.evidence)
        fixes = (replace(each, text=change(each.text), value=change(each.value)) for each in self.fixes)
        found, advice = change(self.found), change(self.advice)
        return replace(self, found=found, advice=advice, evidence=tuple(evidence), fixes=tuple(fixes))


@dataclass(frozen=True)
class Diagnosis:
    """One run. `by` is the e-mail address of the person whose sign-in it looked at, empty for Aster itself."""

    steps: tuple[Step, ...]
    at: str
    by: str = ""
    seconds: float = 0.0

    @property
    def status(self) -> str:
        """The worst that any step found."""
        found = {step.status for step in self.steps}
        return next((status for status in (FAILED, WARNING) if status in found), OK)

    @property
    def summary(self) -> str:
        """The first thing that is wrong: what follows it is usually its consequence."""
        worst = next((step for step in self.steps if step.status == self.status != OK), None)
        return f"{worst.title}: {worst.found}" if worst else "Everything works."

    def offers(self, fix_id: str) -> Fix | None:
        return next((fix for step in self.steps for fix in step.fixes if fix.id == fix_id), None)

    def as_json(self) -> dict[str, Any]:
        run = {"at": self.at, "by": self.by or None, "seconds": self.seconds}
        return {"status": self.status, "summary": self.summary, **run, "steps": [s.as_json() for s in self.steps]}


def read_diagnosis(stored: Mapping[str, Any]) -> Diagnosis:
    """What `as_json` made."""
    return Diagnosis(
        steps=tuple(_read_step(each) for each in stored["steps"]),
        at=stored["at"],
        by=stored["by"] or "",
        seconds=stored["seconds"],
    )


def _read_step(stored: Mapping[str, Any]) -> Step:
    texts = {name: stored[name] for name in ("name", "status", "found", "advice")}
    evidence = tuple(Evidence(**each) for each in stored["evidence"])
    return Step(**texts, evidence=evidence, fixes=tuple(Fix(**each) for each in stored["fixes"]))


def _dicts(values: tuple[Any, ...]) -> list[dict[str, Any]]:
    return [asdict(value) for value in values]
