"""`subscriptions/listen` (2026-07-28): a client is told that the tools of its agent have changed.

The database is the truth, whichever process changed it: one loop per process looks at what the lists of all open
streams are made of, and only where that moved compares the list itself. A stream ends when its key stops working.
Clients of the older eras would have to be told on a stream of a session; the gateway keeps none, and says so in its
handshake.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
import mcp_types as types
from django.db.models import Count, Max
from mcp.server.subscriptions import SUBSCRIPTION_ID_META_KEY
from mcp.shared.exceptions import MCPError

from agents.gateway.connecting import Context
from agents.gateway.offering import caller
from agents.models import Agent, ToolGrant
from agents.services.endpoints import Endpoint, find_endpoint, tools_at
from aster.accounts.access import Actor, require_still_here
from aster.errors import AsterError, NotFound
from aster.threads import in_db_thread
from integrations.models import McpServer

PAUSE_SECONDS = 0.5
# The loop may keep the database busy for so large a part of its time.
SHARE = 0.1
MOST_PER_PERSON, MOST = 10, 500
log = logging.getLogger(__name__)


@dataclass(eq=False)
class Stream:
    """One open stream; `moved` says that its turn to be written has come."""

    endpoint: Endpoint
    actor: Actor
    seen: str
    made_of: object = None
    moved: anyio.Event = field(default_factory=anyio.Event)
    is_over: bool = False

    @property
    def person(self) -> tuple[Any, ...]:
        """Whoever may listen or not: a person with one key or one app."""
        actor = self.actor
        return actor.organization.pk, actor.person.pk, actor.api_key and actor.api_key.pk, actor.app


class Listening:
    """The open streams of one process."""

    def __init__(self) -> None:
        self._streams: set[Stream] = set()
        self._looking: asyncio.Task[None] | None = None

    async def __call__(
        self, ctx: Context, params: types.SubscriptionsListenRequestParams
    ) -> types.SubscriptionsListenResult:
        """Serve one stream until the client leaves, or may not listen any more."""
        actor, endpoint = caller(ctx)
        stream = Stream(endpoint, actor, await in_db_thread(list_print, endpoint, actor))
        self._require_room(stream)
        wanted = params.notifications.tools_list_changed is True
        meta: dict[str, Any] = {SUBSCRIPTION_ID_META_KEY: ctx.request_id}
        self._streams.add(stream)
        try:
            granted = types.SubscriptionFilter(tools_list_changed=True if wanted else None)
            said = types.SubscriptionsAcknowledgedNotificationParams(notifications=granted, _meta=meta)
            await _send(ctx, types.SubscriptionsAcknowledgedNotification(params=said))
            self._look_on()
            while not stream.is_over:
                await stream.moved.wait()
                stream.moved = anyio.Event()
                if wanted and not stream.is_over:
                    changed = types.NotificationParams(_meta=meta)
                    await _send(ctx, types.ToolListChangedNotification(params=changed))
        finally:
            self._streams.discard(stream)
        return types.SubscriptionsListenResult(_meta=meta)

    def _require_room(self, stream: Stream) -> None:
        by_person = Counter(each.person for each in self._streams)
        if by_person[stream.person] >= MOST_PER_PERSON or len(self._streams) >= MOST:
            words = f"{MOST_PER_PERSON} streams are open with this key. Close one of them."
            raise MCPError(types.INTERNAL_ERROR, words)

    def _look_on(self) -> None:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(), name="aster listening")

    async def _look(self) -> None:
        took = 0.0
        while self._streams:
            await anyio.sleep(max(PAUSE_SECONDS, took / SHARE))
            began = time.monotonic()
            try:
                moved = await in_db_thread(look_at, list(self._streams))
            except Exception:  # the database is away: the next look may find it
                log.exception("Could not look for changes")
                moved = []
            took = time.monotonic() - began
            for stream in moved:
                stream.moved.set()


async def _send(ctx: Context, notification: Any) -> None:
    await ctx.session.send_notification(notification, related_request_id=ctx.request_id)


# --- What changed ---------------------------------------------------------------------------------------------------


def look_at(streams: list[Stream]) -> list[Stream]:
    """Those of the streams whose list has changed, or that are over."""
    here: dict[Any, bool] = {}
    made: dict[int, object] = {}
    moved = []
    for stream in streams:
        if stream.person not in here:
            here[stream.person] = _is_here(stream.actor)
        agent_id = stream.endpoint.agent.pk
        if agent_id not in made:
            made[agent_id] = _made_of(agent_id)
        if not here[stream.person] or _has_changed(stream, made[agent_id]):
            stream.is_over = stream.is_over or not here[stream.person]
            moved.append(stream)
    return moved


def _is_here(actor: Actor) -> bool:
    try:
        require_still_here(actor)
    except AsterError:
        return False
    return True


def _made_of(agent_id: int) -> object:
    """What an agent's list is made of, in three small queries: equal means that nothing can have changed."""
    agents = Agent.objects.filter(pk=agent_id)
    servers = McpServer.objects.filter(assignments__agent=agent_id).order_by("pk")
    tools = servers.annotate(
        count=Count("tools"),
        changed=Max("tools__changed_at"),
        gone=Max("tools__gone_at"),
        new=Max("tools__last_seen_at"),
    )
    grants = ToolGrant.objects.filter(agent=agent_id, is_enabled=False).order_by("pk")
    return (
        list(agents.values_list("updated_at", "organization__scope_hierarchy")),
        list(tools.values_list("pk", "updated_at", "count", "changed", "gone", "new")),
        list(grants.values_list("server_id", "tool_name")),
    )


def _has_changed(stream: Stream, made_of: object) -> bool:
    if stream.made_of == made_of:
        return False
    stream.made_of = made_of
    agent = Agent.objects.filter(pk=stream.endpoint.agent.pk).select_related("organization").first()
    try:
        if agent is None:
            raise NotFound("This agent was deleted.")
        server = stream.endpoint.server
        endpoint = find_endpoint(agent, server.slug if server else None)
    except NotFound:
        stream.is_over = True
        return True
    seen, stream.seen = stream.seen, list_print(endpoint, replace(stream.actor, organization=agent.organization))
    return seen != stream.seen


def list_print(endpoint: Endpoint, actor: Actor) -> str:
    """Stands for what tools/list says."""
    listed = [(endpoint.outward(each), each.definition) for each in tools_at(endpoint, actor=actor)]
    return hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest()
