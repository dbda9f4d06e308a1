"""Verbs on MCP servers and auth configs: save, test, delete. Pages, API and commands call these."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from asgiref.sync import async_to_sync, sync_to_async
from django.db import models, transaction
from django.db.models import ProtectedError
from django.utils import timezone

from aster.accounts import audit
from aster.accounts.access import Actor
from aster.accounts.models import is_row_id
from aster.celery import enqueue
from aster.egress import keep_async_pool
from aster.errors import AsterError, Conflict, ConnectionRequired, ConnectionTestFailed, NotFound
from integrations.mcp_client import AuthChallenge, CheckResult, Target, check_target
from integrations.models import AuthConfig, AuthType, McpServer, TestStatus, Transport
from integrations.services import drift, targets
from integrations.services.access import Known, token_source
from integrations.services.catalogue import store_tools
from integrations.services.clients import client_for
from integrations.services.connections import request_test_token
from integrations.services.discovery import Discovered, discover_url, hydrate
from integrations.services.step_up import missing_scopes, want_scopes
from integrations.services.validation import check_name_free, prepare_auth, prepare_server, refuse_connector

SYNC_EVERY = timedelta(hours=1)


@dataclass(frozen=True)
class TestResult:
    """What one test of a server found; stored with the server and shown alike on page, API and command line."""

    status: str
    message: str
    step: str = ""
    hint: str = ""
    era: str = ""
    protocol_version: str = ""
    latency_ms: int = 0
    tool_count: int = 0
    tool_names: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    code: str = ""
    check: CheckResult | None = field(default=None, repr=False)

    @property
    def ok(self) -> bool:
        return self.status == TestStatus.OK

    def as_json(self) -> dict[str, Any]:
        names = ("status", "message", "step", "hint", "era", "protocol_version", "latency_ms", "tool_count")
        return {name: getattr(self, name) for name in (*names, "tool_names", "problems")}


@dataclass(frozen=True)
class Saved:
    server: McpServer
    test: TestResult | None = None
    discovery: Discovered | None = None


# --- Finding --------------------------------------------------------------------------------------------------------


def find_server(key: str | int, *, actor: Actor) -> McpServer:
    """A server by id or slug. Another organization's does not exist."""
    rows = McpServer.objects.visible_to(actor).select_related("auth_config", "organization")
    server = rows.filter(**({"pk": int(key)} if is_row_id(key) else {"slug": key})).first()
    if server is None:
        raise NotFound("There is no such MCP server.")
    return server


def require_enabled(server: McpServer) -> None:
    if not server.is_enabled:
        raise Conflict(f"{server} is switched off. An admin can switch it on.", code="server_disabled")


def find_auth_config(pk: str | int, *, actor: Actor) -> AuthConfig:
    rows = AuthConfig.objects.visible_to(actor).select_related("organization")
    auth = rows.filter(pk=int(pk)).first() if is_row_id(pk) else rows.filter(name=pk).first()
    if auth is None:
        raise NotFound("There is no such auth config.")
    return auth


# --- Saving ---------------------------------------------------------------------------------------------------------


def save_auth_config(auth: AuthConfig, *, actor: Actor) -> None:
    """Validate and store an auth config, with its audit row. Its servers are tested with what is new."""
    actor.require_admin()
    prepare_auth(auth, actor)
    _store_auth(auth, actor)


def _store_auth(auth: AuthConfig, actor: Actor) -> None:
    is_other = not auth._state.adding and bool(set(auth.changed_fields()) - {"name"})
    with transaction.atomic():
        audit.save_audited(auth, actor=actor)
        if is_other:
            _sync_soon(auth.servers.all())


def save_server(
    server: McpServer,
    *,
    actor: Actor,
    auth: AuthConfig | None = None,
    test: bool = True,
    discover: bool = True,
    by_connectors: bool = False,
) -> Saved:
    """Store a server, and with it the (new or changed) `auth` it came with: together or not at all.

    A new server is tried first unless `test` is false: one that does not answer is refused with ConnectionTestFailed
    and nothing is stored. One that needs a person's sign-in is only asked where to sign in, unless `discover` is false.
    """
    actor.require_admin()
    creating = server._state.adding
    auth = auth or server.auth_config
    if auth is not None and auth.organization_id is None:
        auth.organization = actor.organization
    prepare_server(server, auth, actor, by_connectors=by_connectors)
    check_name_free(server)
    if auth is not None and (auth._state.adding or auth.changed_fields()):
        prepare_auth(auth, actor)
    server.auth_config = auth
    changed = creating or _reaches_elsewhere(server)
    woken = server.is_enabled and "is_enabled" in server.changed_fields()
    opened = server.takes_changes and "takes_changes" in server.changed_fields() and not creating
    discovered = _discover(server, auth, refuse=creating and test) if auth and changed and discover else None
    result = None
    if creating and test and server.lists_to_anybody:
        result = try_server(server, actor=actor)
        if not result.ok:
            raise _refusal(result, server)
    with transaction.atomic():
        if auth is not None and (auth._state.adding or auth.changed_fields()):
            _store_auth(auth, actor)
        server.auth_config = auth
        if changed:
            _forget_learned(server)
        audit.save_audited(server, actor=actor)
        _bind_grants(server)
        if opened:
            drift.take_waiting(server, actor=actor)
        if result:
            store_test(server, result, actor=actor)
        elif changed or woken:
            _sync_soon(McpServer.objects.filter(pk=server.pk))
    return Saved(server, result, discovered)


def _sync_soon(rows: models.QuerySet[McpServer]) -> None:
    """Have the background test these servers and list their tools: nothing is known of how they are now."""
    due = list(rows.filter(is_enabled=True).values_list("pk", flat=True))
    McpServer.objects.filter(pk__in=due).update(sync_due_at=timezone.now())
    for pk in due:
        enqueue("integrations.tasks.sync_server", pk)


def _bind_grants(server: McpServer) -> None:
    """A grant made before any server used its auth config belongs to the first one that does, and to no later one."""
    if server.auth_config and server.url:
        server.auth_config.connections.filter(origins=[]).update(origins=[server.origin])


def _reaches_elsewhere(server: McpServer) -> bool:
    """Whether what was learned about a stored server may no longer hold."""
    names = {"transport", "url", "command", "args", "env", "working_dir", "auth_config"}
    return bool(names & set(server.changed_fields()))


def _forget_learned(server: McpServer) -> None:
    server.era = server.protocol_version = server.test_status = ""
    server.discover_result, server.last_test, server.tested_at = None, {}, None
    server.diagnosis = server.diagnosed_at = None


def _discover(server: McpServer, auth: AuthConfig, *, refuse: bool) -> Discovered | None:
    """Fill in what only the provider knows (features S7)."""
    found = hydrate(auth, server)
    complete = auth.token_url and (auth.authorization_url or not auth.needs_person)
    if found and not complete and refuse:
        problem = found.problem or "The server names no authorization server."
        hint = "Check the address, or enter the authorization URL and token URL yourself."
        result = TestResult(TestStatus.FAILED, problem, step="discovery", hint=hint)
        raise _refusal(result, server, found)
    return found


def _refusal(result: TestResult, server: McpServer, found: Discovered | None = None) -> ConnectionTestFailed:
    where = "command" if server.transport == Transport.STDIO else "url"
    words = f"{result.message} {result.hint}".strip()
    extra: dict[str, Any] = {"connection_test_result": result.as_json()}
    if found:
        extra["discovery_result"] = found.as_json()
    return ConnectionTestFailed(words, fields={where: [words]}, extra=extra)


# --- Testing --------------------------------------------------------------------------------------------------------


def try_server(server: McpServer, *, actor: Actor) -> TestResult:
    """Talk to `server` (stored or not) as `actor` would, store nothing, and say what happened."""
    results: list[TestResult] = []
    _try_all([server], actor, None, lambda _, result: results.append(result))
    return results[0]


def _try_all(
    servers: Sequence[McpServer], actor: Actor, known: Known | None, tell: Callable[[McpServer, TestResult], None]
) -> None:
    """Talk to all of them at once: a dead one costs its own timeout, and nobody else's time on top.

    `tell` hears of each in this thread, as soon as it has answered.
    """
    wanted = [(server, _target_or_error(server, actor, known)) for server in servers]
    async_to_sync(_check_all)(wanted, lambda server, outcome: tell(server, _result_of(server, outcome, actor)))


def _target_or_error(server: McpServer, actor: Actor, known: Known | None) -> Target | AsterError:
    try:
        return targets.build_target(server, token_of=_test_token_of(server, actor, known))
    except AsterError as error:
        return error


async def _check_all(
    wanted: Sequence[tuple[McpServer, Target | AsterError]],
    tell: Callable[[McpServer, CheckResult | AsterError], None],
) -> None:
    async def check(server: McpServer, target: Target | AsterError) -> None:
        outcome: CheckResult | AsterError
        try:
            outcome = target if isinstance(target, AsterError) else await check_target(target)
        except AsterError as error:
            outcome = error
        # Thread-sensitive: in the thread that called async_to_sync, and with its database connection.
        await sync_to_async(tell)(server, outcome)

    async with keep_async_pool():
        await asyncio.gather(*(check(*each) for each in wanted))


def _result_of(server: McpServer, outcome: CheckResult | AsterError, actor: Actor) -> TestResult:
    match outcome:
        case AuthChallenge():
            return _sign_in_result(server, outcome, actor)
        case ConnectionRequired():
            # The person's own sign-in ended: that says nothing about the server.
            return TestResult(TestStatus.SIGN_IN, outcome.message, step="auth", hint="Click Connect to sign in again.")
        case AsterError():
            step = getattr(outcome, "step", "") or {"forbidden_address": "url"}.get(outcome.code, "")
            hint = getattr(outcome, "hint", "")
            return TestResult(TestStatus.FAILED, outcome.message, step=step, hint=hint, code=outcome.code)
    names = [str(tool["name"]) for tool in outcome.tools]
    return TestResult(
        TestStatus.OK,
        f"{len(names)} tool{'' if len(names) == 1 else 's'} found." if names else "It answers, but offers no tools.",
        era=outcome.era,
        protocol_version=outcome.protocol_version,
        latency_ms=outcome.latency_ms,
        tool_count=len(names),
        tool_names=names,
        problems=list(outcome.problems),
        check=outcome,
    )


def _test_token_of(server: McpServer, actor: Actor, known: Known | None) -> targets.TokenOf | None:
    auth = server.auth_config
    if auth is not None and auth._state.adding and auth.auth_type == AuthType.CLIENT_CREDENTIALS:
        hydrate(auth, server)
        token = request_test_token(auth, client_for(auth, actor=actor))
        return lambda rejected: None if rejected else token
    return token_source(server, actor, known=known)


def _sign_in_result(server: McpServer, wants: AuthChallenge, actor: Actor) -> TestResult:
    """The server answered 401 or 403: say what that means for this kind of auth."""
    connection = targets.connection_for(server, actor.user)
    if connection is not None and (scopes := missing_scopes(wants)):
        refusal = want_scopes(server, connection, scopes)
        status = TestStatus.SIGN_IN if isinstance(refusal, ConnectionRequired) else TestStatus.FAILED
        return TestResult(status, refusal.message, step="auth", hint=getattr(refusal, "hint", ""), code=refusal.code)
    if server.needs_person:
        return TestResult(TestStatus.SIGN_IN, wants.message, step="auth", hint="Click Connect to sign in again.")
    if server.auth_type == AuthType.NONE and discover_url(server.url).oauth:
        hint = "It wants each person to sign in: choose OAuth."
    elif server.auth_type == AuthType.NONE:
        hint = "It wants a key: choose API key and add the header it expects."
    else:
        hint = "Check the credentials: it did not accept them."
    return TestResult(TestStatus.FAILED, wants.message, step="auth", hint=hint)


def test_server(server: McpServer, *, actor: Actor) -> TestResult:
    """Test a stored server as the acting person, and keep the result and the tools that were seen."""
    if not actor.is_admin:
        require_enabled(server)
    if not server.lists_to_anybody and token_source(server, actor) is None:
        words = "Each person signs in to this server. Connect your account first, then test."
        return TestResult(TestStatus.SIGN_IN, words, step="auth", hint="Click Connect.")
    result = try_server(server, actor=actor)
    store_test(server, result, actor=actor)
    return result


def learn_tools(servers: Iterable[McpServer], *, actor: Actor) -> None:
    """List those of the servers that were never tried, in case the background has not come to them yet.

    Only what was never tried: a server that failed is left to the background, and a dead one blocks nobody twice.
    """
    never = [each for each in servers if each.is_enabled and each.tools_synced_at is None and each.tested_at is None]
    known = targets.connections_for(never, actor.user)
    reached = [each for each in never if each.lists_to_anybody or token_source(each, actor, known=known)]

    def keep(server: McpServer, result: TestResult) -> None:
        with suppress(NotFound):  # deleted meanwhile, which is no trouble of the others
            store_test(server, result, actor=actor)

    if reached:
        _try_all(reached, actor, known, keep)


def store_test(server: McpServer, result: TestResult, *, actor: Actor) -> None:
    """Keep what a test learned: result, era and tools. One person's refused sign-in says nothing about the server."""
    if result.status == TestStatus.SIGN_IN:
        return
    now = timezone.now()
    learned: dict[str, Any] = {
        "test_status": result.status,
        "last_test": result.as_json(),
        "tested_at": now,
        "sync_due_at": now + SYNC_EVERY,
    }
    if result.check:
        check = result.check
        learned |= {"era": check.era, "protocol_version": check.protocol_version, "discover_result": check.discover}
    with transaction.atomic():
        if not McpServer.objects.filter(pk=server.pk).update(**learned):
            raise NotFound("This MCP server was deleted meanwhile.")
        for name, value in learned.items():
            setattr(server, name, value)
        server.remember()
        if result.check:
            drifted = store_tools(server, result.check.tools, seen_by=actor.user, now=now)
            if drifted.before != drifted.after:
                changes = {"quarantined tools": [drifted.before, drifted.after]}
                audit.record(actor, "tools_changed", server, changes)


# --- Ending ---------------------------------------------------------------------------------------------------------


def set_enabled(server: McpServer, enabled: bool, *, actor: Actor) -> None:
    actor.require_admin()
    if server.is_enabled != enabled:
        server.is_enabled = enabled
        with transaction.atomic():
            audit.save_audited(server, actor=actor, action="enabled" if enabled else "disabled")
            _sync_soon(McpServer.objects.filter(pk=server.pk))


def delete_server(server: McpServer, *, actor: Actor, by_connectors: bool = False) -> None:
    """Delete a server with its tools, and its auth config when nothing else uses it and nobody is connected.

    Raises Conflict for a connector's: disabling it revokes people's tokens first.
    """
    actor.require_admin()
    if not by_connectors:
        refuse_connector(server)
    with transaction.atomic():
        auth = server.auth_config
        audit.delete_audited(server, actor=actor)
        if auth and not (auth.servers.exists() or auth.connections.exists() or auth.derived_configs.exists()):
            audit.delete_audited(auth, actor=actor)


def delete_auth_config(auth: AuthConfig, *, actor: Actor) -> None:
    actor.require_admin()
    if auth.connections.exists():
        raise Conflict("People are connected through this auth config. Disconnect them first.", code="in_use")
    try:
        audit.delete_audited(auth, actor=actor)
    except ProtectedError:
        users = [*auth.servers.values_list("name", flat=True), *auth.derived_configs.values_list("name", flat=True)]
        names = ", ".join(users[:5])
        raise Conflict(f"Still used by {names}. Change or delete that first.", code="in_use") from None
