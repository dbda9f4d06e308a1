"""The token a call of the acting person would use: is there one, does it last, was it renewed, what was said."""

from __future__ import annotations

import re
from collections.abc import Callable

from django.utils import timezone

from aster.errors import AsterError, ConnectionRequired
from aster.threads import wait_for
from integrations.models import AuthConfig, AuthType, Connection, ConnectionStatus, RefreshOutcome, ResourceMode
from integrations.services import refresh
from integrations.services.access import token_source
from integrations.services.doctor import fixes
from integrations.services.doctor.report import Evidence, Fix
from integrations.services.doctor.run import Run
from integrations.services.ledger import attempts_of
from integrations.services.sign_in_failures import last_failure
from integrations.services.targets import connection_for, static_headers

TOKEN_SECONDS = 18.0
LEDGER_LINES = 3
_TOKEN = "token"
# Where the provider's own error code stands in what is kept of a refusal
_ERROR_WORD = re.compile(r"The provider refused: ([A-Za-z0-9_.-]+)")
_RENEWED = (RefreshOutcome.RENEWED, RefreshOutcome.SIGNED_IN)


def check_token(run: Run) -> None:
    """Get the token as any call would: one that is still good is taken as it is, one that has run out is renewed."""
    auth = run.auth
    if _TOKEN in run.steps:
        return
    if auth is None or not auth.is_oauth:
        _check_shared(run)
        return
    if auth.needs_person and run.actor.user is None:
        run.skip("Each person has a sign-in of their own, and this run is nobody's.", _TOKEN)
        return
    run.connection = connection = connection_for(run.server, run.actor.user)
    if connection is None and auth.needs_person:
        _judge_missing(run, auth)
    elif connection is not None and not connection.reaches(run.server):
        words = "The sign-in was made when this server was at another address, so its token is not sent here."
        run.fail(_TOKEN, words, fixes=[fixes.reconnect(auth)])
    elif connection is not None and connection.status == ConnectionStatus.ERROR:
        _judge_ended(run, auth, connection)
    else:
        source = token_source(run.server, run.actor)
        if source is not None:
            _take_token(run, auth, lambda: source(None))


def _check_shared(run: Run) -> None:
    try:
        headers = static_headers(run.auth)
    except AsterError as error:
        run.fail_with(_TOKEN, error, fixes=[fixes.edit_settings("Correct the credentials.")])
        return
    if headers:
        run.ok(_TOKEN, f"Credentials are sent with every request ({', '.join(sorted(headers))}).")
    else:
        run.skip("No sign-in is set up.", _TOKEN)


def _judge_missing(run: Run, auth: AuthConfig) -> None:
    failed = last_failure(auth, user=run.actor.user)
    if failed is None or failed.step == "registration":
        run.warn(_TOKEN, "You are not connected yet.", fixes=[fixes.reconnect(auth, "Sign in at the provider.")])
        return
    asked = Evidence(words=f"{failed.at:%Y-%m-%d %H:%M} UTC · {failed.reason}")
    advice, offered = explain_refusal(auth, failed.error, failed.reason)
    words = f"You are not connected: the last sign-in failed. {failed.reason}"
    run.fail(_TOKEN, words, asked, advice=advice, fixes=offered)


def _judge_ended(run: Run, auth: AuthConfig, connection: Connection) -> None:
    advice, offered = explain_refusal(auth, _error_word(connection.last_error), connection.last_error)
    words = f"The sign-in is over. {connection.last_error}".strip()
    run.fail(_TOKEN, words, *ledger_of(connection), advice=advice, fixes=offered)


def _take_token(run: Run, auth: AuthConfig, source: Callable[[], str | None]) -> None:
    generation = run.connection.generation if run.connection else 0
    seconds = run.left(TOKEN_SECONDS)
    if seconds < 0.2:
        run.skip("The time for one run was used up.", _TOKEN)
        return
    try:
        # Not cut short when time is up: the answer to a renewal must be stored, or the grant is lost.
        run.token = wait_for(seconds, source) or ""
    except TimeoutError:
        words = f"The provider has not answered within {seconds:.0f} seconds. The renewal goes on in the background."
        run.fail(_TOKEN, words, Evidence(url=auth.token_url), advice="Look again in a minute.")
        return
    except AsterError as error:
        run.connection = connection_for(run.server, run.actor.user)
        _judge_trouble(run, auth, error)
        return
    run.connection = connection = connection_for(run.server, run.actor.user)
    run.renewed = connection is not None and connection.generation != generation
    if connection is not None:
        _praise(run, auth, connection)


def _judge_trouble(run: Run, auth: AuthConfig, error: AsterError) -> None:
    connection = run.connection
    if connection is None:
        asked = Evidence(url=auth.token_url, words=error.message)
        advice, offered = explain_refusal(auth, str(getattr(error, "error", "")), error.message)
        run.fail(_TOKEN, error.message, asked, advice=advice, fixes=offered)
    elif connection.status == ConnectionStatus.ERROR or isinstance(error, ConnectionRequired):
        _judge_ended(run, auth, connection)
    else:
        said = connection.last_error or error.message
        advice, offered = explain_refusal(auth, _error_word(said), said)
        again = [fix for fix in offered if fix.id != "reconnect"]
        words = f"The sign-in could not be renewed, and Aster keeps trying. {said}"
        run.fail(_TOKEN, words, *ledger_of(connection), advice=advice, fixes=again)


def _praise(run: Run, auth: AuthConfig, connection: Connection) -> None:
    evidence = ledger_of(connection)
    whose = "You are connected" if connection.user_id else "The organization is connected"
    if run.renewed and connection.generation > 1:
        run.ok(_TOKEN, f"{whose}. The token had run out and was renewed just now.", *evidence)
    elif connection.expires_at is None:
        run.ok(_TOKEN, f"{whose}, until somebody revokes it.", *evidence)
    elif not connection.can_refresh:
        words = f"{whose} until {connection.expires_at:%Y-%m-%d %H:%M} UTC, but the provider gave no refresh token."
        advice = "Many providers give one only for the scope offline_access."
        run.warn(_TOKEN, words, *evidence, advice=advice, fixes=[fixes.reconnect(auth)])
    elif connection.failures:
        words = f"{whose}, but the last renewal failed. Aster tries again by itself. {connection.last_error}"
        run.warn(_TOKEN, words, *evidence)
    else:
        renewed = connection.attempts.filter(outcome=RefreshOutcome.RENEWED).order_by("-pk").first()
        proven = f"last renewed {renewed.at:%Y-%m-%d %H:%M} UTC" if renewed else "not renewed yet"
        run.ok(_TOKEN, f"{whose}, and the token is good until {_until(connection)}; {proven}.", *evidence)


def _until(connection: Connection) -> str:
    ends = connection.expires_at
    today = ends and ends.date() == timezone.now().date()
    return f"{ends:%H:%M} UTC" if today else f"{ends:%Y-%m-%d %H:%M} UTC"


def renew_rejected(run: Run) -> str | None:
    """Another token for one the server refused, as a call would ask for it; None if there is no use or no time.

    Raises AsterError as fresh_access_token().
    """
    connection = run.connection
    if run.renewed or connection is None or not connection.can_refresh or run.left() < 3:
        return None
    try:
        token = wait_for(run.left(TOKEN_SECONDS), refresh.fresh_access_token, connection, rejected=run.token)
    except TimeoutError:
        return None
    run.renewed = True
    run.connection = connection_for(run.server, run.actor.user)
    return token


def ledger_of(connection: Connection) -> list[Evidence]:
    lines = []
    for line in attempts_of(connection)[:LEDGER_LINES]:
        url = "" if line.outcome in _RENEWED else connection.token_url
        told = (f"{line.at:%Y-%m-%d %H:%M} UTC", line.get_outcome_display(), line.reason, line.detail)
        lines.append(Evidence(url=url, words=" · ".join(filter(None, told))))
    return lines


def _error_word(words: str) -> str:
    found = _ERROR_WORD.search(words)
    return found.group(1).lower() if found else ""


def explain_refusal(auth: AuthConfig, error: str, words: str) -> tuple[str, list[Fix]]:
    """What a provider's refusal means, and what helps."""
    lower = words.lower()
    if _is_about_resource(error, lower):
        if auth.resource_mode == ResourceMode.SEND:
            return "The provider does not take the parameter “resource”.", [fixes.omit_resource(auth)]
        return "“resource” is left out by now: sign in again.", [fixes.reconnect(auth)]
    if "redirect_uri" in lower or "redirect uri" in lower or "callback" in lower:
        return "The provider does not know Aster's callback URL.", [fixes.set_callback_url(), fixes.reconnect(auth)]
    if error in ("invalid_client", "unauthorized_client"):
        return _explain_client(auth)
    if error == "invalid_scope":
        fix = fixes.edit_settings("Correct the scopes in the sign-in settings.")
        return "The provider does not know a scope that Aster asks for.", [fix]
    if "not an oauth answer" in lower or "a redirect" in lower:
        advice = "A token endpoint answers with JSON. Check the token URL."
        return advice, [fixes.edit_settings(advice)]
    if error == "invalid_grant":
        advice = "The provider has ended it: revoked, expired, or taken back. Only a new sign-in helps."
        return advice, [fixes.reconnect(auth)]
    return "", [fixes.reconnect(auth)]


def _is_about_resource(error: str, lower: str) -> bool:
    # Microsoft Entra: AADSTS9010010 "The resource parameter provided in the request doesn't match with the requested
    # scopes", AADSTS901002 "The 'resource' request parameter is not supported".
    named = "aadsts901" in lower or "resource parameter" in lower or "'resource'" in lower or '"resource"' in lower
    return error == "invalid_target" or named


def _explain_client(auth: AuthConfig) -> tuple[str, list[Fix]]:
    if auth.client_id or auth.auth_type == AuthType.CLIENT_CREDENTIALS:
        advice = "The provider does not accept the client ID or its secret."
        return advice, [fixes.edit_settings("Check the client ID and paste its secret again.")]
    words = "Sign in again: Aster then registers a new client."
    return "The provider no longer knows the client that Aster registered.", [fixes.reconnect(auth, words)]
