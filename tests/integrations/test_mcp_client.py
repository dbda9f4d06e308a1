from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import pytest

from aster.errors import AsterError, ConnectionRequired, ForbiddenAddress, UpstreamError
from integrations.mcp_client import (
    AuthChallenge,
    Session,
    Target,
    check_target,
    open_target,
    probe_target,
    register_connector_resolver,
)
from integrations.mcp_client import target as target_module
from tests.fakes.mcp_servers import (
    CHALLENGE,
    FakeServer,
    broken_app,
    build_server,
    guarded,
    legacy_only_app,
    modern_and_legacy_app,
    modern_only_app,
    serve,
    sse_app,
    stdio_command,
    unused_url,
)

Result = TypeVar("Result")
TOOL_NAMES = ["echo", "add", "fail", "refuse", "slow", "big", "whoami", "structured", "regional"]
SECRET = "sk-very-secret"


def http(base: str, **options: Any) -> Target:
    return Target(transport="streamable_http", url=f"{base}/mcp", **{"timeout": 5.0, **options})


def sse(base: str, **options: Any) -> Target:
    return Target(transport="sse", url=f"{base}/sse", **{"timeout": 5.0, **options})


def stdio(*args: str, **options: Any) -> Target:
    command, arguments = stdio_command()
    return Target(transport="stdio", command=command, args=[*arguments, *args], **{"timeout": 20.0, **options})


def use(target: Target, work: Callable[[Session], Coroutine[Any, Any, Result]]) -> Result:
    """Run `work` in a session at `target`; what the session started must have ended with it."""

    async def run() -> Result:
        async with open_target(target) as session:
            result = await work(session)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return result

    return asyncio.run(run())


def call(target: Target, name: str, **arguments: Any) -> dict[str, Any]:
    return use(target, lambda session: session.call_tool(name, arguments))


def text_of(result: dict[str, Any]) -> str:
    return str(result["content"][0]["text"])


def failure(target: Target) -> AsterError:
    with pytest.raises(AsterError) as caught:
        asyncio.run(check_target(target))
    return caught.value


# --- Eras and transports ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "at", "era", "version"),
    [
        (modern_and_legacy_app, http, "modern", "2026-07-28"),
        (modern_only_app, http, "modern", "2026-07-28"),
        (legacy_only_app, http, "legacy", "2025-11-25"),
        (sse_app, sse, "legacy", "2025-11-25"),
    ],
)
def test_a_check_finds_era_and_tools_of_every_kind_of_server(
    build: Callable[[], FakeServer], at: Callable[[str], Target], era: str, version: str
) -> None:
    with serve(build()) as base:
        result = asyncio.run(check_target(at(base)))
    assert (result.era, result.protocol_version) == (era, version)
    assert [tool["name"] for tool in result.tools] == TOOL_NAMES
    assert result.server_info["name"] == "fake"
    assert result.problems == []
    assert (result.discover is not None) == (era == "modern")


@pytest.mark.parametrize(
    ("build", "at"), [(modern_only_app, http), (legacy_only_app, http), (sse_app, sse)], ids=["modern", "legacy", "sse"]
)
def test_a_call_comes_back_as_the_server_gave_it(build: Callable[[], FakeServer], at: Callable[[str], Target]) -> None:
    with serve(build()) as base:
        assert call(at(base), "add", a=2, b=3) == {
            "content": [{"type": "text", "text": "5"}],
            "isError": False,
            "_meta": {"com.example/kept": 1},
        }
        assert call(at(base), "fail")["isError"] is True


def test_a_remembered_modern_server_costs_one_request() -> None:
    fake = modern_and_legacy_app()
    with serve(fake) as base:
        found = asyncio.run(check_target(http(base)))
        fake.requests.clear()
        target = http(base, era=found.era, discover=found.discover)
        assert text_of(call(target, "echo", text="hi")) == "hi"
    assert fake.methods() == ["tools/call"]


def test_a_remembered_legacy_server_is_not_asked_for_its_era() -> None:
    fake = legacy_only_app()
    with serve(fake) as base:
        assert text_of(call(http(base, era="legacy"), "echo", text="hi")) == "hi"
    assert fake.methods() == ["initialize", "tools/call"]
    assert fake.requests[-1].http_method == "DELETE"  # the session is given back


def test_a_remembered_modern_era_that_is_wrong_is_corrected_on_the_way() -> None:
    async def work(session: Session) -> tuple[str, str]:
        return text_of(await session.call_tool("echo", {"text": "hi"})), session.era

    discover = {"supportedVersions": ["2026-07-28"], "capabilities": {}}
    fake = legacy_only_app()
    with serve(fake) as base:
        assert use(http(base, era="modern", discover=discover), work) == ("hi", "legacy")
    assert fake.calls() == ["echo", "echo"]  # refused once, and only then sent again


def test_a_remembered_legacy_era_that_is_wrong_is_corrected_on_the_way() -> None:
    async def work(session: Session) -> tuple[int, str]:
        return len((await session.list_tools()).tools), session.era

    with serve(modern_only_app()) as base:
        assert use(http(base, era="legacy"), work) == (len(TOOL_NAMES), "modern")


def test_a_right_era_is_kept_when_a_call_is_refused() -> None:
    fake = modern_only_app()
    with serve(fake) as base:
        found = asyncio.run(check_target(http(base)))
        fake.requests.clear()
        with pytest.raises(UpstreamError, match="refused the call: Unknown or refused tool: refuse") as caught:
            call(http(base, era="modern", discover=found.discover), "refuse")
    assert (caught.value.step, caught.value.code, caught.value.retryable) == ("call", "tool_call_failed", False)
    assert fake.calls() == ["refuse"]


def test_a_session_the_server_forgot_is_opened_again() -> None:
    fake = legacy_only_app()

    async def work(session: Session) -> str:
        await session.list_tools()
        fake.forget_sessions()
        await session.list_tools()
        fake.forget_sessions()
        return text_of(await session.call_tool("echo", {"text": "still here"}))

    with serve(fake) as base:
        assert use(http(base, era="legacy"), work) == "still here"
    assert fake.methods().count("initialize") == 3


def test_sse_and_streamable_http_are_told_apart() -> None:
    with serve(sse_app()) as base:
        error = failure(Target(transport="streamable_http", url=f"{base}/sse", timeout=5))
        assert isinstance(error, UpstreamError)
        assert (error.step, error.hint) == ("initialize", "This looks like an SSE server: choose the SSE transport.")
    with serve(legacy_only_app("/sse")) as base:
        error = failure(sse(base))
        assert isinstance(error, UpstreamError)
        assert "choose the Streamable HTTP transport" in error.hint


def test_a_probe_tells_what_is_there_without_raising_for_a_sign_in() -> None:
    with serve(guarded(modern_and_legacy_app(), "good")) as base:
        probe = asyncio.run(probe_target(http(base)))
        assert (probe.era, probe.status) == ("", 401)
        assert probe.www_authenticate == [CHALLENGE, 'Basic realm="fake"']
        probe = asyncio.run(probe_target(http(base, headers={"Authorization": "Bearer good"})))
        assert (probe.era, probe.transport, probe.protocol_version) == ("modern", "streamable_http", "2026-07-28")
        assert probe.discover is not None


def test_a_probe_gives_back_the_session_it_opened() -> None:
    fake = legacy_only_app()
    with serve(fake) as base:
        assert asyncio.run(probe_target(http(base))).era == "legacy"
    assert fake.requests[-1].http_method == "DELETE"
    assert fake.methods() == ["server/discover", "initialize"]


# --- stdio and connectors ---------------------------------------------------------------------------------------------


def test_a_command_is_talked_to_and_ended() -> None:
    async def work(session: Session) -> tuple[str, str]:
        return session.era, text_of(await session.call_tool("echo", {"text": "hi"}))

    assert use(stdio(), work) == ("modern", "hi")
    assert _children() == []


def test_a_command_is_ended_when_its_caller_is_cancelled() -> None:
    async def run(calling: asyncio.Event) -> None:
        async with open_target(stdio()) as session:
            progress = partial(_set, calling)
            await session.call_tool("slow", {"seconds": 60}, progress=progress)

    async def cancel_it() -> None:
        calling = asyncio.Event()
        task = asyncio.create_task(run(calling))
        await calling.wait()
        assert len(_children()) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(cancel_it())
    assert _children() == []


def test_a_command_that_never_answers_is_ended_when_its_time_is_up() -> None:
    error = failure(Target(transport="stdio", command="sleep", args=["60"], timeout=0.5))
    assert error.message == "The server did not answer within 0.5 seconds."
    assert _children() == []


async def _set(event: asyncio.Event, *_: object) -> None:
    event.set()


def _children() -> list[str]:
    pid = os.getpid()
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return file.read().split()


def test_a_command_that_is_missing_or_ends_at_once_is_told_so() -> None:
    error = failure(Target(transport="stdio", command="/nowhere/server", args=[SECRET]))
    assert (error.message, getattr(error, "step", "")) == ("The command was not found.", "dial")
    error = failure(stdio("--exit", SECRET))
    assert (error.message, getattr(error, "step", "")) == ("The command ended before it answered.", "initialize")


def test_a_command_sees_only_the_environment_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", SECRET)

    async def work(session: Session) -> str:
        return text_of(await session.call_tool("whoami"))

    seen = use(stdio(env={"TOKEN": "given"}), work)
    assert '"TOKEN": "given"' in seen
    assert SECRET not in seen


@pytest.fixture
def as_installed() -> Iterator[None]:
    """The connectors of the installation are found again by whatever runs after."""
    installed = target_module._resolvers[:]
    yield
    target_module._resolvers[:] = installed


@pytest.mark.usefixtures("as_installed")
def test_a_connector_is_served_in_process() -> None:
    register_connector_resolver(lambda target: build_server())
    target = Target(transport="connector", url="fake")
    assert [tool["name"] for tool in asyncio.run(check_target(target)).tools] == TOOL_NAMES
    assert text_of(call(target, "echo", text="hi")) == "hi"


@pytest.mark.usefixtures("as_installed")
def test_what_a_connector_refuses_on_purpose_reaches_the_caller() -> None:
    from mcp.server.lowlevel.server import Server

    async def needs_sign_in(ctx: Any, params: Any) -> Any:
        raise ConnectionRequired("Connect Slack first.") if params.name == "asks" else ValueError(SECRET)

    register_connector_resolver(lambda target: Server("slack", on_call_tool=needs_sign_in))
    with pytest.raises(ConnectionRequired, match="Connect Slack first"):
        call(Target(transport="connector", url="slack"), "asks")
    with pytest.raises(UpstreamError, match=r"^The connector failed\.$"):
        call(Target(transport="connector", url="slack"), "crashes")


# --- Credentials ------------------------------------------------------------------------------------------------------


class Tokens:
    """A token source that knows the next token and remembers what it was asked."""

    def __init__(self, *tokens: str | None) -> None:
        self.tokens, self.rejected = list(tokens), list[str]()

    async def __call__(self, rejected: str | None) -> str | None:
        if rejected is not None:
            self.rejected.append(rejected)
            self.tokens.pop(0)
        return self.tokens[0]


@pytest.mark.parametrize(("build", "at"), [(modern_and_legacy_app, http), (sse_app, sse)], ids=["http", "sse"])
def test_a_rejected_token_is_replaced_once(build: Callable[[], FakeServer], at: Callable[..., Target]) -> None:
    tokens = Tokens("old", "new")
    with serve(guarded(build(), "new")) as base:
        assert text_of(call(at(base, token=tokens), "echo", text="hi")) == "hi"
    assert tokens.rejected == ["old"]


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(("build", "at"), [(modern_and_legacy_app, http), (sse_app, sse)], ids=["http", "sse"])
def test_a_refused_token_leaves_as_a_challenge(
    build: Callable[[], FakeServer], at: Callable[..., Target], status: int
) -> None:
    with serve(guarded(build(), "good", status=status)) as base:
        error = failure(at(base, token=Tokens(SECRET, None)))
    assert isinstance(error, AuthChallenge)
    assert (error.status, error.step, error.retryable) == (status, "auth", False)
    assert error.www_authenticate == [CHALLENGE, 'Basic realm="fake"']
    assert SECRET not in repr(error)


@pytest.mark.parametrize(("build", "at"), [(legacy_only_app, http), (sse_app, sse)], ids=["http", "sse"])
def test_a_token_that_is_refused_in_mid_session_is_told_to_its_own_call(
    build: Callable[[], FakeServer], at: Callable[..., Target]
) -> None:
    fake = build()
    tokens = Tokens("good", None)

    async def work(session: Session) -> str:
        slow = asyncio.create_task(session.call_tool("slow", {"seconds": 0.3}))
        while "slow" not in fake.calls():
            await asyncio.sleep(0.01)
        guarded(fake, "other")
        with pytest.raises(AuthChallenge):
            await session.call_tool("echo", {"text": "hi"})
        return text_of(await slow)

    with serve(guarded(fake, "good")) as base:
        assert use(at(base, token=tokens, era="legacy"), work) == "done"


def test_what_the_token_source_raises_reaches_the_caller() -> None:
    async def no_token(rejected: str | None) -> str | None:
        raise ConnectionRequired("Connect first.")

    with serve(modern_and_legacy_app()) as base:
        assert isinstance(failure(http(base, token=no_token)), ConnectionRequired)
        assert isinstance(failure(http(base, token=no_token, era="legacy")), ConnectionRequired)


def test_static_headers_are_sent_and_never_shown() -> None:
    with serve(modern_and_legacy_app()) as base:
        target = http(base, headers={"X-Api-Key": SECRET})
        assert f'"x-api-key": "{SECRET}"' in text_of(call(target, "whoami"))
    shown = repr(replace(target, command=SECRET, args=[SECRET], env={"KEY": SECRET}, url=f"https://x/?key={SECRET}"))
    assert SECRET not in shown


@pytest.mark.parametrize("era", ["", "legacy"])
def test_a_header_that_http_does_not_allow_fails_without_showing_its_value(era: Any) -> None:
    bad = f"{SECRET}\nX: y"
    with serve(modern_and_legacy_app()) as base:
        for target in (http(base, era=era, headers={"X-Api-Key": bad}), http(base, era=era, token=Tokens(bad))):
            with pytest.raises(UpstreamError) as caught:
                call(target, "echo", text="hi")
            assert SECRET not in f"{caught.value!r} {caught.value.hint}"


def test_no_capability_is_declared_to_either_era() -> None:
    for fake, era in ((modern_only_app(), "modern"), (legacy_only_app(), "legacy")):
        with serve(fake) as base:
            call(http(base), "echo", text="hi")
        for seen in fake.requests:
            declared = seen.body.get("params", {})
            if era == "modern" and seen.rpc:
                assert declared["_meta"]["io.modelcontextprotocol/clientCapabilities"] == {}
            elif seen.rpc == "initialize":
                assert declared["capabilities"] == {}


# --- What goes wrong on the way ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [http, sse])
@pytest.mark.parametrize(
    ("kind", "message", "retryable"),
    [
        ("html", "The address answered with a web page, not MCP.", False),
        ("error", "The server failed (500).", True),
        ("missing", "The server has no MCP endpoint at this path (404).", False),
        ("redirect", "/elsewhere: use that address.", False),
    ],
)
def test_an_http_answer_that_is_not_mcp_is_explained(
    kind: str, message: str, retryable: bool, at: Callable[..., Target]
) -> None:
    with serve(broken_app(kind)) as base:
        error = failure(at(base))
    assert isinstance(error, UpstreamError)
    assert message in error.message
    assert (error.step, error.retryable) == ("http", retryable)
    assert error.hint
    assert "secret-of-the-server" not in f"{error.message} {error.hint}"


@pytest.mark.parametrize("era", ["", "modern", "legacy"])
@pytest.mark.parametrize("kind", ["html", "error", "redirect", "missing"])
def test_the_explanation_is_the_same_for_a_remembered_server(kind: str, era: str) -> None:
    with serve(broken_app(kind)) as base:
        expected = failure(http(base)).message
        with pytest.raises(UpstreamError) as caught:
            call(http(base, era=era), "echo", text="hi")
    assert caught.value.message == expected


@pytest.mark.parametrize("at", [http, sse])
@pytest.mark.parametrize("kind", ["hang", "drip"])
def test_a_server_that_never_finishes_is_given_up_in_time(kind: str, at: Callable[..., Target]) -> None:
    started = time.monotonic()
    with serve(broken_app(kind)) as base:
        error = failure(at(base, timeout=0.5))
        assert time.monotonic() - started < 3
    assert isinstance(error, UpstreamError)
    assert error.retryable
    assert ("did not answer within 0.5 seconds" in error.message) or kind == "drip"


@pytest.mark.parametrize("transport", ["streamable_http", "sse"])
def test_a_closed_port_is_told_as_one_error(transport: Any) -> None:
    error = failure(Target(transport=transport, url=unused_url(), timeout=5))
    assert isinstance(error, UpstreamError)
    assert (error.step, error.retryable) == ("dial", True)


@pytest.mark.parametrize("transport", ["streamable_http", "sse"])
@pytest.mark.parametrize("era", ["", "legacy"])
def test_a_forbidden_address_stays_one(transport: Any, era: Any) -> None:
    error = failure(Target(transport=transport, era=era, url="http://169.254.169.254/mcp", timeout=5))
    assert isinstance(error, ForbiddenAddress)


def test_a_broken_connection_costs_one_call_and_not_the_session() -> None:
    fake = modern_and_legacy_app()
    real = fake.app

    async def hang_up(scope: Any, receive: Any, send: Any) -> None:
        raise ConnectionResetError

    async def work(session: Session) -> str:
        slow = asyncio.create_task(session.call_tool("slow", {"seconds": 0.3}))
        while "slow" not in fake.calls():
            await asyncio.sleep(0.01)
        fake.serve_instead(hang_up)
        with pytest.raises(UpstreamError):
            await session.call_tool("echo", {"text": "lost"})
        fake.serve_instead(real)
        assert text_of(await session.call_tool("echo", {"text": "again"})) == "again"
        return text_of(await slow)

    with serve(fake) as base:
        assert use(http(base), work) == "done"


def test_steps_that_may_be_repeated_are_tried_again() -> None:
    fake = modern_and_legacy_app()
    real, failed = fake.app, list[str]()

    async def fail_twice(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and len(failed) < 2:
            failed.append(scope["path"])
            await send({"type": "http.response.start", "status": 503, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        else:
            await real(scope, receive, send)

    async def list_them(session: Session) -> int:
        failed.clear()
        fake.serve_instead(fail_twice)
        return len((await session.list_tools()).tools)

    def call_it(**hints: Any) -> dict[str, Any]:
        async def work(session: Session) -> dict[str, Any]:
            failed.clear()
            fake.serve_instead(fail_twice)
            tool = {"name": "echo", "inputSchema": {"type": "object"}, "annotations": hints}
            return await session.call_tool("echo", {"text": "hi"}, tool=tool)

        fake.serve_instead(real)
        return use(http(base, retry_attempts=2), work)

    with serve(fake) as base:
        assert use(http(base, retry_attempts=2), list_them) == len(TOOL_NAMES)
        for hints in ({"readOnlyHint": True}, {"idempotentHint": True}):
            assert text_of(call_it(**hints)) == "hi"
            assert len(failed) == 2
        for hints in ({}, {"readOnlyHint": "true"}, {"idempotentHint": False}):
            with pytest.raises(UpstreamError, match="503"):
                call_it(**hints)
            assert len(failed) == 1


def test_a_call_that_could_not_be_sent_is_sent_again() -> None:
    """Nothing ran at a server that was not there yet, whatever the tool says."""
    fake = modern_and_legacy_app()

    async def run() -> dict[str, Any]:
        port = int(unused_url().rpartition(":")[2].partition("/")[0])
        target = http(f"http://127.0.0.1:{port}", era="modern", discover=found.discover, retry_attempts=5)
        async with open_target(target) as session, AsyncExitStack() as stack:
            waiting = asyncio.create_task(session.call_tool("echo", {"text": "hi"}))
            await asyncio.to_thread(stack.enter_context, serve(fake, port=port))
            return await waiting

    with serve(modern_only_app()) as base:
        found = asyncio.run(check_target(http(base)))
    assert text_of(asyncio.run(run())) == "hi"
    assert fake.calls() == ["echo"]


def test_tries_share_the_time_of_a_call() -> None:
    fake = broken_app("hang")

    async def work(session: Session) -> dict[str, Any]:
        return await session.call_tool("echo", {}, tool={"annotations": {"readOnlyHint": True}}, timeout=0.3)

    with serve(fake) as base, pytest.raises(UpstreamError, match=r"within 0\.3 seconds"):
        target = http(base, era="modern", discover={"supportedVersions": ["2026-07-28"]}, retry_attempts=5)
        use(target, work)
    assert fake.methods() == ["tools/call"]


def test_sessions_may_be_opened_and_closed_in_different_tasks() -> None:
    async def run(base: str) -> list[str]:
        async with AsyncExitStack() as stack:
            opening = (stack.enter_async_context(open_target(http(base))) for _ in range(3))
            sessions = await asyncio.gather(*opening)
            return [text_of(await session.call_tool("echo", {"text": "hi"})) for session in sessions]

    with serve(modern_and_legacy_app()) as base:
        assert asyncio.run(run(base)) == ["hi"] * 3


def test_an_exception_of_the_caller_passes_through_as_it_is() -> None:
    async def work(session: Session) -> None:
        raise KeyError("mine")

    with serve(legacy_only_app()) as base, pytest.raises(KeyError, match="mine"):
        use(http(base), work)
