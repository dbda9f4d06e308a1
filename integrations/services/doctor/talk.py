"""The last steps: talk to the server as a call of the acting person would, and list its tools."""

from __future__ import annotations

from dataclasses import replace

import anyio
from asgiref.sync import async_to_sync

from aster.errors import AsterError, ConnectionRequired, UpstreamError
from integrations.mcp_client import AuthChallenge, CheckResult, Target, check_target
from integrations.models import AuthConfig, Transport
from integrations.oauth.challenges import bearer_challenge
from integrations.services.doctor import fixes
from integrations.services.doctor.address import transport_fix
from integrations.services.doctor.report import Evidence, Fix
from integrations.services.doctor.run import Run
from integrations.services.doctor.sign_in import explain_refusal, renew_rejected
from integrations.services.step_up import missing_scopes, want_scopes
from integrations.services.targets import build_target, static_headers

TALK_SECONDS = 15.0
_SESSION, _TOOLS = "session", "tools"
_NO_HANDSHAKE = "There was no handshake."


def talk(run: Run) -> None:
    if words := _needless(run):
        run.skip(words, _SESSION, _TOOLS)
        return
    if run.server.transport == Transport.CONNECTOR:
        _list_own(run)
        return
    try:
        check = _check(run)
    except AuthChallenge as refused:
        try:
            token = renew_rejected(run) if refused.status == 401 and run.token else None
            if token is None:
                _judge_refusal(run, refused)
                return
            run.token = token
            check = _check(run)
        except AuthChallenge as again:
            _judge_refusal(run, again)
            return
        except AsterError as error:
            _judge_lost(run, error)
            return
    except AsterError as error:
        _judge_failure(run, error)
        return
    _praise(run, check)


def _list_own(run: Run) -> None:
    """The tools of a connector, which are known without asking its provider."""
    run.skip("The tools are Aster's own: there is no server to shake hands with.", _SESSION)
    try:
        count = len(_check(run).tools)
    except AsterError as error:
        run.fail_with(_TOOLS, error)
        return
    run.ok(_TOOLS, f"{count} tools of Aster's own. Whether the provider accepts the sign-in shows when one is called.")


def _needless(run: Run) -> str:
    """Why nothing new can be learned by talking; empty if it can."""
    if run.failed("url"):
        return "The address cannot be used."
    if run.failed("dial"):
        return "The server was not reached."
    if run.server.transport == Transport.CONNECTOR:
        return ""
    # A sign-in may change what a server answers, but not which transport it speaks.
    is_same_question = not (run.token or static_headers(run.auth))
    if run.failed("answer") and (is_same_question or run.steps["answer"].fixes_with("use_transport")):
        return "The answer without a sign-in tells enough."
    if run.uses_oauth and not run.token:
        return "There is no token to send: see the sign-in above."
    return "" if run.left() > 0.2 else "The time for one run was used up."


def _check(run: Run) -> CheckResult:
    token = run.token or None
    # A rejected token is renewed here, between two attempts, and not inside: that may take longer than is left.
    source = (lambda rejected: None if rejected else token) if token else None
    target = build_target(run.server, token_of=source)
    seconds = run.left(TALK_SECONDS)
    limited = replace(target, timeout=min(target.timeout, seconds), retry_attempts=0)
    return async_to_sync(_check_within)(limited, seconds)


async def _check_within(target: Target, seconds: float) -> CheckResult:
    """`target.timeout` bounds each step of it; this bounds them together."""
    try:
        with anyio.fail_after(seconds):
            return await check_target(target)
    except TimeoutError:
        words = f"The server did not finish within {seconds:.0f} seconds."
        raise UpstreamError(words, step="initialize", code=UpstreamError.TIMEOUT, retryable=True) from None


def _praise(run: Run, check: CheckResult) -> None:
    info = check.server_info
    name = " ".join(str(info[key]) for key in ("name", "version") if info.get(key))
    by = f"{name}, protocol {check.protocol_version}" if name else f"protocol {check.protocol_version}"
    again = " The first token was refused; after a renewal it works." if _was_rejected(run) else ""
    run.ok(_SESSION, f"The handshake worked: {by}.{again}", Evidence(url=run.server.url, words=check.era))
    count = len(check.tools)
    listed = Evidence(url=run.server.url, words=", ".join(str(tool["name"]) for tool in check.tools[:20]))
    if check.problems:
        left_out = "; ".join(check.problems[:5])
        run.warn(_TOOLS, f"{count} tools can be used, {len(check.problems)} have problems.", listed, advice=left_out)
    elif count:
        run.ok(_TOOLS, f"{count} tool{'' if count == 1 else 's'}, listed in {check.latency_ms} ms.", listed)
    else:
        run.warn(_TOOLS, "It answers, but offers no tools.", listed)


def _was_rejected(run: Run) -> bool:
    step = run.steps.get("token")
    return run.renewed and step is not None and "just now" not in step.found


def _judge_failure(run: Run, error: AsterError) -> None:
    hint = getattr(error, "hint", "")
    asked = Evidence(url=run.server.url)
    if getattr(error, "step", "") == "tools":
        run.ok(_SESSION, "The handshake worked.", asked)
        run.fail_with(_TOOLS, error, asked)
        return
    run.fail_with(_SESSION, error, asked, fixes=transport_fix(hint))
    run.skip(_NO_HANDSHAKE, _TOOLS)


def _judge_lost(run: Run, error: AsterError) -> None:
    """The server refused the token, and the provider gave no other one."""
    auth = run.auth
    connection = run.connection
    if connection is not None:
        connection.refresh_from_db()
    said = (connection.last_error if connection else "") or error.message
    words = f"The server refused the token, and the provider did not renew it. {said}"
    advice, offered = "", list[Fix]()
    if auth is not None:
        refused = said.partition("The provider refused: ")[2].partition(":")[0].strip().lower()
        advice, offered = explain_refusal(auth, refused, said)
    run.fail(_SESSION, words, Evidence(url=auth.token_url if auth else "", words=said), advice=advice, fixes=offered)
    run.skip(_NO_HANDSHAKE, _TOOLS)


def _judge_refusal(run: Run, refused: AuthChallenge) -> None:
    challenge = bearer_challenge(refused.www_authenticate)
    told = " · ".join(f"WWW-Authenticate: {line}" for line in refused.www_authenticate)
    asked = Evidence(run.server.url, refused.status, told)
    said = f" It says: {challenge.error_description}" if challenge and challenge.error_description else ""
    run.skip(_NO_HANDSHAKE, _TOOLS)
    scopes = missing_scopes(refused)
    auth, connection = run.auth, run.connection
    if scopes and connection is not None:
        error = want_scopes(run.server, connection, scopes)
        offered = (
            [fixes.reconnect(auth, "Connect again to allow them.")] if isinstance(error, ConnectionRequired) else []
        )
        run.fail_with(_SESSION, error, asked, fixes=offered)
    elif refused.status == 403:
        advice = "The sign-in works, but this account may not use the server. Ask the server's operator for access."
        run.fail(_SESSION, f"The server refuses access (403).{said}", asked, advice=advice)
    elif auth is None or not auth.is_oauth:
        fix = fixes.edit_settings("Enter the credentials again: the server does not accept them.")
        run.fail(_SESSION, f"The server does not accept the credentials ({refused.status}).{said}", asked, fixes=[fix])
    else:
        _judge_rejected_token(run, auth, asked, said)


def _judge_rejected_token(run: Run, auth: AuthConfig, asked: Evidence, said: str) -> None:
    connection, found = run.connection, run.found
    fresh = "a token renewed just now" if run.renewed else "the token, which has not run out"
    words = f"The server refuses {fresh}.{said}"
    offered = [fixes.reconnect(auth)]
    if connection and found and connection.issuer and connection.issuer != found.issuer:
        advice = f"The token is from {connection.issuer}, but the server now wants one from {found.issuer}."
    elif connection and found and found.resource and connection.resource != found.resource:
        advice = f"The token is for {connection.resource or 'no particular server'}; this one is {found.resource}."
        offered.insert(0, fixes.edit_settings("Correct the resource in the sign-in settings, then connect again."))
    else:
        advice = "The server and the provider disagree about this token: connect again, or ask the server's operator."
    run.fail(_SESSION, words, asked, advice=advice, fixes=offered)
