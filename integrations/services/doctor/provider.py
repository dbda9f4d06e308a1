"""Who protects the server, and what that provider says about itself: discovery, told step by step."""

from __future__ import annotations

import copy
from urllib.parse import urlsplit

from aster import egress
from aster.errors import AsterError, UpstreamError
from integrations.models import AuthConfig, AuthType, ResourceMode
from integrations.oauth import discovery
from integrations.oauth.discovery import Discovery, DiscoveryFailed
from integrations.oauth.discovery import Step as Asked
from integrations.oauth.sender import send
from integrations.services.discovery import check_pkce, take_over
from integrations.services.doctor import fixes
from integrations.services.doctor.report import Evidence, Fix
from integrations.services.doctor.run import Run

METADATA_SECONDS = 8.0
LEGACY_SECONDS = 2.0
_RESOURCE, _PROVIDER = "resource_metadata", "provider_metadata"
_NO_ONE_NAMED = "names no resource or no authorization server"


def find_provider(run: Run) -> None:
    """Both metadata steps, from one walk in the order of the specification."""
    if words := _needless(run):
        run.skip(words, _RESOURCE, _PROVIDER)
        return
    moved: DiscoveryFailed | None = None
    problem: DiscoveryFailed | None = None
    issuer = run.auth.issuer or None if run.auth and run.uses_oauth else None
    with egress.deadline(run.left(METADATA_SECONDS)):
        try:
            run.found = _discover(run, issuer)
        except DiscoveryFailed as failed:
            problem = failed
        if problem and problem.code == "issuer_changed":
            moved, problem = problem, None
            try:
                run.found = _discover(run, None)
            except DiscoveryFailed as failed:
                problem = failed
    steps = run.found.steps if run.found else problem.steps if problem else ()
    of_resource = [each for each in steps if _is_about_resource(each, run)]
    of_provider = [each for each in steps if each not in of_resource]
    if problem and not of_provider:
        run.fail_with(_RESOURCE, problem, *_evidence(of_resource), fixes=_fixes_for(problem))
        run.skip("Nobody was named to ask.", _PROVIDER)
        return
    _judge_resource(run, of_resource, problem)
    if problem:
        _judge_missing(run, problem, of_provider, moved)
    elif run.found and run.auth and run.uses_oauth:
        _judge_provider(run, run.auth, run.found, of_provider, moved)
    elif run.found:
        words = f"People sign in at {run.found.issuer}. Choose OAuth to let them."
        run.warn(_PROVIDER, words, *_evidence(of_provider), fixes=[fixes.edit_settings("Choose OAuth as the sign-in.")])


def _needless(run: Run) -> str:
    if run.is_dead("url") or run.is_dead("dial"):
        return "The server was not reached."
    if run.uses_oauth:
        return ""
    if run.auth and run.auth.auth_type in (AuthType.BEARER, AuthType.BASIC):
        return "Shared credentials are used: nobody signs in at a provider."
    wants = run.probe is not None and run.probe.status in (401, 403)
    return "" if wants else "The server asks for no sign-in."


def _discover(run: Run, issuer: str | None) -> Discovery:
    allow_legacy = bool(run.auth and run.auth.allow_legacy_endpoints)
    return discovery.discover(
        run.server.url,
        http=egress.client(),
        challenge=run.challenge,
        issuer=issuer,
        allow_legacy=allow_legacy,
    )


def _is_about_resource(asked: Asked, run: Run) -> bool:
    pointer = run.challenge.resource_metadata if run.challenge else None
    about = asked.url == pointer or "/.well-known/oauth-protected-resource" in asked.url
    return about or asked.outcome.startswith(("resource refused", "server URL refused"))


def _evidence(steps: list[Asked]) -> list[Evidence]:
    return [Evidence(each.url, each.status, each.outcome) for each in steps]


def _fixes_for(problem: DiscoveryFailed) -> list[Fix]:
    if problem.code == "forbidden_address" and problem.steps:
        return fixes.allow_host(problem.message, problem.steps[-1].url)
    if problem.code == "resource_mismatch":
        return [fixes.edit_settings("If the server really is at that other address, enter it.")]
    return []


# --- Protected resource metadata (RFC 9728) ---------------------------------------------------------------------------


def _judge_resource(run: Run, steps: list[Asked], problem: DiscoveryFailed | None) -> None:
    evidence, found = _evidence(steps), run.found
    if found and found.protected_resource is not None:
        named = ", ".join(found.authorization_servers[:4])
        wanted = run.auth.resource if run.auth and run.auth.resource_mode == ResourceMode.SEND else ""
        if wanted and found.resource and wanted != found.resource:
            words = f"The server calls itself {found.resource}, but tokens are asked for {wanted}."
            advice = "A server that checks whom a token is for will refuse them: correct the resource in the settings."
            fix = fixes.edit_settings(advice)
            run.warn(_RESOURCE, words, *evidence, advice=advice, fixes=[fix])
            return
        run.ok(_RESOURCE, f"Its metadata says that people sign in at {named}.", *evidence)
        return
    if any(each.outcome == "protected resource metadata" for each in steps):
        run.ok(_RESOURCE, "Its metadata says where people sign in.", *evidence)
        return
    if any(each.outcome == _NO_ONE_NAMED for each in steps):
        words = "Its metadata names no authorization server, so nobody can tell where to sign in."
        advice = "Ask the server's operator to fill in resource and authorization_servers (RFC 9728 §2)."
        (run.fail if problem else run.warn)(_RESOURCE, words, *evidence, advice=advice)
        return
    words = "It publishes no protected resource metadata (RFC 9728), as servers of before June 2025 do."
    run.warn(_RESOURCE, words, *evidence)


# --- Authorization server metadata (RFC 8414) -------------------------------------------------------------------------


def _judge_missing(run: Run, problem: DiscoveryFailed, steps: list[Asked], moved: DiscoveryFailed | None) -> None:
    evidence, auth = _evidence(steps), run.auth
    if auth and run.uses_oauth and not auth.provider_metadata and _is_complete(auth) and not problem.retryable:
        words = "The provider publishes no usable metadata. Aster uses the endpoints an admin entered."
        run.warn(_PROVIDER, words, *evidence, advice=problem.message)
        return
    offered = _fixes_for(problem)
    if not problem.retryable and not any(" refused: " in each.outcome for each in steps):
        offered += _legacy_fix(run)
    words = f"{moved.message} And there: {problem.message}" if moved else problem.message
    run.fail(_PROVIDER, words, *evidence, advice=problem.hint, fixes=offered)


def _is_complete(auth: AuthConfig) -> bool:
    return bool(auth.token_url and (auth.authorization_url or auth.auth_type != AuthType.AUTHORIZATION_CODE))


def _legacy_fix(run: Run) -> list[Fix]:
    """The default endpoints of 2025-03-26, if the server wants a sign-in and something is at the first of them."""
    auth = run.auth
    wants = run.probe is not None and run.probe.status == 401
    if auth is None or not run.uses_oauth or auth.issuer or auth.allow_legacy_endpoints or not wants:
        return []
    parts = urlsplit(run.server.url)
    origin = f"{parts.scheme}://{parts.netloc}"
    try:
        answer = send(egress.client(), "GET", f"{origin}/authorize", step="discovery", seconds=run.left(LEGACY_SECONDS))
    except UpstreamError:
        return []
    return [] if answer.status in (404, 410) else [fixes.allow_legacy_endpoints(auth, origin)]


def _judge_provider(
    run: Run, auth: AuthConfig, found: Discovery, steps: list[Asked], moved: DiscoveryFailed | None
) -> None:
    evidence = _evidence(steps)
    if moved:
        # What the new provider says is not yet what a sign-in goes by.
        _judge_move(run, auth, found, moved, evidence)
        return
    run.current = current = copy.copy(auth)
    take_over(current, found)
    if auth.auth_type == AuthType.AUTHORIZATION_CODE and not current.authorization_url:
        words = f"{found.issuer} names no authorization endpoint: nobody can be sent there to sign in."
        run.fail(_PROVIDER, words, *evidence, advice="Ask the provider, or enter the authorization URL yourself.")
        return
    try:
        if auth.auth_type == AuthType.AUTHORIZATION_CODE:
            check_pkce(current)
    except AsterError as error:
        run.fail_with(_PROVIDER, error, *evidence, fixes=[fixes.assume_pkce(auth)])
        return
    left_out = [each.outcome for each in steps if " refused: " in each.outcome]
    if current.token_url != found.token_endpoint:
        words = f"The server names {found.issuer}, but the endpoints in the settings belong to somebody else."
        advice = "Aster uses the settings. Clear the endpoints there to go by what the server says."
        run.warn(_PROVIDER, words, *evidence, fixes=[fixes.edit_settings(advice)])
    elif left_out:
        run.warn(_PROVIDER, f"{found.issuer} works, but an address it names cannot be used.", *evidence)
    elif found.uses_legacy_defaults:
        run.warn(_PROVIDER, "It publishes no metadata; the default endpoints of 2025-03-26 are used.", *evidence)
    else:
        run.ok(_PROVIDER, _praise(found), *evidence)


def _praise(found: Discovery) -> str:
    able = [
        "PKCE" if found.supports_pkce else "",
        "automatic registration" if found.registration_endpoint else "",
        "client metadata documents" if found.client_id_metadata_document_supported else "",
        "revocation" if found.revocation_endpoint else "",
    ]
    return f"{found.issuer} offers {', '.join(filter(None, able)) or 'sign-in, and nothing beyond'}."


def _judge_move(run: Run, auth: AuthConfig, found: Discovery, moved: DiscoveryFailed, evidence: list[Evidence]) -> None:
    if auth.client_id:
        # Its secret belongs to the old provider and must not be sent to another one (RFC 9700 §4.4).
        advice = "Check the move with the server's operator. Then enter the new issuer and a client made there."
        run.fail(_PROVIDER, moved.message, *evidence, advice=advice, fixes=[fixes.edit_settings(advice)])
        return
    advice = "Check the move with the server's operator first."
    run.fail(_PROVIDER, moved.message, *evidence, advice=advice, fixes=[fixes.follow_issuer(auth, found.issuer)])
