"""The first steps: may Aster go to the address, does anybody answer, and with what when nobody is signed in."""

from __future__ import annotations

from asgiref.sync import async_to_sync

from aster import egress
from aster.errors import AsterError
from integrations.mcp_client import Probe, Target, probe_target, require_streamable
from integrations.mcp_client.failures import USE_HTTP, USE_SSE
from integrations.models import AuthType, McpServer, Transport
from integrations.oauth.challenges import bearer_challenge
from integrations.services.doctor import fixes
from integrations.services.doctor.report import Evidence, Fix
from integrations.services.doctor.run import Run

LOOKUP_SECONDS = 4.0
PROBE_SECONDS = 8.0
_UNREACHED = "The server was not reached."


def check_address(run: Run) -> None:
    server = run.server
    if server.transport == Transport.STDIO:
        words = "It is a local command: there is no address and no sign-in."
        run.skip(words, "url", "dial", "answer", "resource_metadata", "provider_metadata", "client", "token")
        return
    asked = Evidence(url=server.url)
    try:
        egress.check_url(server.url, lookup_seconds=run.left(LOOKUP_SECONDS))
    except AsterError as refused:
        run.fail_with("url", refused, asked, fixes=fixes.allow_host(refused.message, server.url))
        return
    run.ok("url", "Aster may connect to this address.", asked)
    if server.transport == Transport.CONNECTOR:
        words = (
            "A connector calls the provider's REST API, where no MCP server answers and nothing says how to sign in."
        )
        run.skip(words, "dial", "answer", "resource_metadata", "provider_metadata")


def ask_without_token(run: Run) -> None:
    """One request that carries no credentials: whether anybody is there, and what they want to see first."""
    if run.is_dead("url") or run.is_dead("dial"):
        run.skip("The address cannot be used.", "dial", "answer")
        return
    server = run.server
    target = Target(transport="streamable_http", url=server.url, timeout=run.left(PROBE_SECONDS), key=server.name)
    asked = Evidence(url=server.url)
    try:
        run.probe = async_to_sync(probe_target)(target)
    except AsterError as error:
        if getattr(error, "step", "") in ("dial", "url"):
            run.fail_with("dial", error, asked, fixes=fixes.allow_host(error.message, server.url))
            run.skip(_UNREACHED, "answer")
            return
        run.ok("dial", "A connection was made.", asked)
        run.fail_with("answer", error, asked)
        return
    run.ok("dial", "A connection was made.", asked)
    _judge_answer(run, run.probe, target)


def _judge_answer(run: Run, probe: Probe, target: Target) -> None:
    asked = Evidence(run.server.url, probe.status, _header_words(probe))
    if probe.status in (401, 403):
        _judge_challenge(run, probe, asked)
    elif wrong := wrong_transport(run.server, probe):
        transport, name = wrong
        words = f"The server speaks {name}, but Aster is set to another transport."
        run.fail("answer", words, asked, fixes=[fixes.use_transport(transport)])
    elif probe.era or probe.transport:
        words = "It answers without a sign-in"
        run.ok("answer", f"{words}; its tools may still want one." if run.uses_oauth else f"{words}.", asked)
    else:
        try:
            require_streamable(probe, target)
        except AsterError as error:
            run.fail_with("answer", error, asked, fixes=[fixes.edit_settings("Correct the address of the server.")])


def wrong_transport(server: McpServer, probe: Probe) -> tuple[Transport, str] | None:
    """The transport to use instead, if what answers is an MCP server of the other kind."""
    if not probe.transport or probe.transport == server.transport:
        return None
    transport = Transport(probe.transport)
    return transport, transport.label.split(" (")[0]


def _judge_challenge(run: Run, probe: Probe, asked: Evidence) -> None:
    run.challenge = challenge = bearer_challenge(probe.www_authenticate)
    auth = run.auth
    has_credentials = auth is not None and (auth.auth_type != AuthType.NONE or bool(auth.custom_headers))
    if not has_credentials:
        words = f"It wants a sign-in ({probe.status}), but none is set up."
        run.fail("answer", words, asked, fixes=[fixes.edit_settings("Choose how to sign in to this server.")])
    elif run.uses_oauth and challenge is None:
        words = f"It wants a sign-in ({probe.status}), but does not say which: there is no Bearer challenge."
        advice = "RFC 9728 wants WWW-Authenticate: Bearer with resource_metadata. The usual places are asked instead."
        run.warn("answer", words, asked, advice=advice)
    else:
        said = f" It says: {challenge.error_description}" if challenge and challenge.error_description else ""
        run.ok("answer", f"It wants a sign-in ({probe.status}), as it should.{said}", asked)


def _header_words(probe: Probe) -> str:
    lines = [f"WWW-Authenticate: {line}" for line in probe.www_authenticate]
    return " · ".join(lines) or probe.answer.content_type


def transport_fix(hint: str) -> list[Fix]:
    """The fix for what the client found out while it talked: the other transport."""
    known = {USE_SSE: Transport.SSE, USE_HTTP: Transport.STREAMABLE_HTTP}
    return [fixes.use_transport(known[hint])] if hint in known else []
