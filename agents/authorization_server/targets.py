"""What a client asks a person for: one of our endpoints, and the scopes that calls there may take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from agents.authorization_server.endpoints import Endpoint
from agents.models import Agent
from agents.runtime.naming import server_prefix
from agents.services.agents import assigned_servers
from aster.accounts.access import CALL, MANAGE, Actor
from aster.accounts.models import Membership, User
from aster.errors import AsterError
from integrations.models import McpServer

WANTED = (
    "The app did not say which address it wants to use. In its settings, give it the URL of an agent, as the agent's "
    "page “Use it” in Aster shows it. An app that cannot say it (the parameter “resource”, RFC 8707) needs an API "
    "key instead."
)
UNKNOWN = (
    "The app asks for {url}, and there is nothing at this address that you may use. Compare it with the URL on the "
    "agent's page “Use it”. If the agent belongs to another of your accounts, sign in with that one."
)


class InvalidTarget(AsterError):
    """A client asks for something that is none of our endpoints, or not this person's (RFC 8707 §2)."""

    code = "invalid_target"


@dataclass(frozen=True)
class Offer:
    """One scope on the consent page: the person may leave out what is not required."""

    scope: str
    words: str
    required: bool = False
    chosen: bool = True


@dataclass(frozen=True)
class Target:
    """An endpoint as the person behind `actor` may use it."""

    endpoint: Endpoint
    actor: Actor
    agent: Agent | None = None
    server: McpServer | None = None

    def __str__(self) -> str:
        if self.agent is None:
            return f"Administration of {self.actor.organization}"
        return f"{self.agent}, {self.server} alone" if self.server else str(self.agent)

    @cached_property
    def servers(self) -> list[McpServer]:
        if self.server:
            return [self.server]
        return assigned_servers(self.agent, with_tools=False) if self.agent else []

    def offers(self, asked: Sequence[str]) -> list[Offer]:
        """What the person is asked to allow. A client that names scopes beside `aster:call` gets those chosen."""
        if self.agent is None:
            words = f"Change servers, agents and people of {self.actor.organization}, as you may yourself"
            more = {MANAGE: words} if self.actor.is_admin else {}
        else:
            more = {scope: _words(tools) for scope, tools in sorted(self._tools_by_scope().items())}
        named = set(asked) - {CALL}
        first = "Read servers and agents, as you may yourself" if self.agent is None else ""
        first = first or "List its tools and call them with the accounts you have connected"
        chosen = {scope: not named & more.keys() or scope in named for scope in more}
        return [Offer(CALL, first, required=True), *(Offer(s, w, chosen=chosen[s]) for s, w in more.items())]

    def _tools_by_scope(self) -> dict[str, list[str]]:
        prefixes = tuple(f"{server_prefix(server.slug, server.pk)}__" for server in self.servers)
        own = self.agent.tool_scopes if self.agent else {}
        of_agent = [item for item in own.items() if item[0].startswith(prefixes)]
        found: dict[str, list[str]] = {}
        for tool, needed in [*of_agent, *(item for server in self.servers for item in server.tool_scopes.items())]:
            for scope in needed:
                found.setdefault(scope, []).append(tool)
        return found


def _words(tools: Iterable[str]) -> str:
    names = sorted(set(tools))
    shown = ", ".join(names[:3])
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"Use {'the tool' if len(names) == 1 else 'the tools'} {shown}{more}"


def find_target(resources: Sequence[str], user: User, *, request_id: str = "") -> Target:
    """The one endpoint a client asks for. What the person may not use is told apart from nothing by nobody."""
    if len(set(resources)) != 1 or not resources[0]:
        raise InvalidTarget(WANTED)
    endpoint = Endpoint.at_url(resources[0])
    unknown = InvalidTarget(UNKNOWN.format(url=resources[0][:200]))
    if endpoint is None:
        raise unknown
    members = Membership.objects.select_related("organization", "user")
    member = members.filter(user=user, organization__slug=endpoint.organization).first()
    if member is None:
        raise unknown
    actor = Actor(member.organization, member.user, member.role, request_id=request_id)
    if endpoint.is_admin:
        return Target(endpoint, actor)
    agent = Agent.objects.usable_by(actor).select_related("organization").filter(slug=endpoint.agent).first()
    if agent is None:
        raise unknown
    if not endpoint.server:
        return Target(endpoint, actor, agent)
    server = McpServer.objects.filter(assignments__agent=agent, slug=endpoint.server).first()
    if server is None:
        raise unknown
    return Target(endpoint, actor, agent, server)
