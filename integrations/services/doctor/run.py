"""One run under way: its clock, and what its steps have learned for those after them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from aster.accounts.access import Actor
from aster.errors import AsterError
from integrations.mcp_client import Probe
from integrations.models import AuthConfig, Connection, McpServer
from integrations.oauth.challenges import BearerChallenge
from integrations.oauth.discovery import Discovery
from integrations.services.doctor.report import FAILED, OK, SKIPPED, TITLES, WARNING, Evidence, Fix, Step

TOTAL_SECONDS = 30.0


@dataclass
class Run:
    """What the steps share. A step adds itself under its name; a name that is not there was not come to yet."""

    server: McpServer
    actor: Actor
    seconds: float = TOTAL_SECONDS
    steps: dict[str, Step] = field(default_factory=dict)
    probe: Probe | None = None
    challenge: BearerChallenge | None = None
    found: Discovery | None = None
    # The auth config as a sign-in now would see it: with what the provider publishes today
    current: AuthConfig | None = None
    connection: Connection | None = None
    token: str = field(default="", repr=False)
    renewed: bool = False

    def __post_init__(self) -> None:
        self.started = time.monotonic()
        self.current = self.server.auth_config

    @property
    def auth(self) -> AuthConfig | None:
        return self.server.auth_config

    @property
    def uses_oauth(self) -> bool:
        return self.auth is not None and self.auth.is_oauth

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def left(self, at_most: float = TOTAL_SECONDS) -> float:
        """The seconds a step may take: `at_most` of a run of 30, in proportion, and never more than are left."""
        share = at_most * self.seconds / TOTAL_SECONDS
        return max(0.0, min(share, self.seconds - self.elapsed))

    def is_dead(self, name: str) -> bool:
        """Whether what depends on this step has nothing to stand on."""
        return name in self.steps and self.steps[name].status in (FAILED, SKIPPED)

    def failed(self, name: str) -> bool:
        return name in self.steps and self.steps[name].status == FAILED

    def add(
        self, name: str, status: str, found: str, *evidence: Evidence, advice: str = "", fixes: list[Fix] | None = None
    ) -> None:
        self.steps[name] = Step(name, status, found, advice, evidence, tuple(fixes or ()))

    def ok(self, name: str, found: str, *evidence: Evidence, fixes: list[Fix] | None = None) -> None:
        self.add(name, OK, found, *evidence, fixes=fixes)

    def warn(
        self, name: str, found: str, *evidence: Evidence, advice: str = "", fixes: list[Fix] | None = None
    ) -> None:
        self.add(name, WARNING, found, *evidence, advice=advice, fixes=fixes)

    def fail(
        self, name: str, found: str, *evidence: Evidence, advice: str = "", fixes: list[Fix] | None = None
    ) -> None:
        self.add(name, FAILED, found, *evidence, advice=advice, fixes=fixes)

    def fail_with(self, name: str, error: AsterError, *evidence: Evidence, fixes: list[Fix] | None = None) -> None:
        self.fail(name, error.message, *evidence, advice=getattr(error, "hint", ""), fixes=fixes)

    def skip(self, words: str, *names: str) -> None:
        """These steps have no business here, or nothing to stand on. What was found already stays."""
        for name in names or TITLES:
            if name not in self.steps:
                self.add(name, SKIPPED, words)
