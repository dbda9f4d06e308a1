"""Which OAuth client a sign-in would use, and whether it would work. Nothing is registered to find that out."""

from __future__ import annotations

from collections.abc import Mapping

from django.conf import settings

from aster import egress
from aster.errors import AsterError, UpstreamError
from integrations.models import AuthConfig, AuthType, ClientMode
from integrations.oauth.sender import Answer, read_json_object, send
from integrations.oauth.wording import clean_words, describe_error, read_error
from integrations.services.clients import ClientPlan, plan_client
from integrations.services.doctor import fixes
from integrations.services.doctor.report import Evidence, Fix
from integrations.services.doctor.run import Run
from integrations.services.sign_in_failures import last_failure

REGISTRATION_SECONDS = 4.0
_CLIENT = "client"
# No client can be made of this: RFC 7591 §2 wants an object. Who refuses Aster as such does so before looking at it.
_UNUSABLE = b"[]"
_ABOUT_THE_BODY = ("invalid_client_metadata", "invalid_redirect_uri", "invalid_request", "invalid_json", "error", "")


def check_client(run: Run) -> None:
    auth = run.current
    if _CLIENT in run.steps:
        return
    if auth is None or not run.uses_oauth:
        run.skip("No OAuth client is needed.", _CLIENT)
        return
    if run.is_dead("provider_metadata") and not auth.token_url and not auth.client_id:
        run.skip("It depends on the provider, which is not known yet.", _CLIENT)
        return
    try:
        plan = plan_client(auth)
    except AsterError as error:
        run.fail_with(_CLIENT, error, fixes=_other_ways(auth))
        return
    judge = {"pasted": _judge_pasted, "document": _judge_document, "register": _judge_registration}
    if plan.kind in judge:
        judge[plan.kind](run, auth, plan)
    elif plan.kind == "registered" and plan.stored:
        words = f"Aster registered itself there on {plan.stored.created_at:%d %B %Y}."
        run.ok(_CLIENT, words, Evidence(url=auth.registration_url))
    else:
        words = "There is no client yet, and an admin chose not to register one automatically."
        run.fail(_CLIENT, words, fixes=[*_other_ways(auth), fixes.set_callback_url()])


def _judge_pasted(run: Run, auth: AuthConfig, plan: ClientPlan) -> None:
    offered = [fixes.set_callback_url()] if auth.auth_type == AuthType.AUTHORIZATION_CODE else []
    method = plan.client.auth_method if plan.client else "none"
    supported = auth.provider_metadata.get("token_endpoint_auth_methods_supported")
    if isinstance(supported, list) and supported and method not in supported:
        taken = clean_words(", ".join(map(str, supported)))
        words = f"Aster would authenticate with {method}, but the provider takes only {taken}."
        fix = fixes.edit_settings("Enter the client secret, or choose a method that the provider takes.")
        run.warn(_CLIENT, words, Evidence(url=auth.token_url, words=taken), fixes=[fix, *offered])
        return
    how = "without a secret" if method == "none" else f"with {method}"
    words = f"The client that an admin entered is used, {how}."
    if offered:
        words += " Whether it allows Aster's callback URL shows only when somebody signs in."
    run.ok(_CLIENT, words, fixes=offered)


def _judge_document(run: Run, auth: AuthConfig, plan: ClientPlan) -> None:
    url = settings.ASTER_CLIENT_METADATA_URL
    asked = Evidence(url=url)
    if auth.provider_metadata.get("client_id_metadata_document_supported") is not True:
        words = "The provider does not say that it reads client metadata documents."
        run.warn(_CLIENT, words, asked, advice="Another way is safer.", fixes=_other_ways(auth))
        return
    try:
        # As the provider would see it: without the private hosts that this Aster may reach.
        egress.check_url(url, policy=egress.Policy(), lookup_seconds=run.left(2))
    except AsterError as refused:
        words = "The provider has to fetch Aster's client metadata document, which is not at a public address."
        run.warn(_CLIENT, words, asked, advice=refused.message, fixes=_other_ways(auth))
        return
    run.ok(_CLIENT, "Aster introduces itself with its client metadata document.", asked)


def _other_ways(auth: AuthConfig) -> list[Fix]:
    """What else a client could come from, best first."""
    offered = []
    documents = auth.provider_metadata.get("client_id_metadata_document_supported") is True
    if documents and settings.ASTER_CLIENT_METADATA_URL and auth.client_mode != ClientMode.CIMD:
        offered.append(fixes.choose_client_mode(auth, "cimd"))
    if auth.registration_url and auth.client_mode not in (ClientMode.DYNAMIC, ClientMode.AUTO):
        offered.append(fixes.choose_client_mode(auth, "dynamic"))
    return [*offered, fixes.paste_client()]


# --- Dynamic registration (RFC 7591) ----------------------------------------------------------------------------------


def _judge_registration(run: Run, auth: AuthConfig, plan: ClientPlan) -> None:
    by_hand = [*_other_ways(auth), fixes.set_callback_url()]
    if not auth.registration_url:
        words = "The provider does not register clients automatically, and no client ID was entered."
        run.fail(_CLIENT, words, fixes=by_hand)
        return
    if failed := last_failure(auth, step="registration"):
        asked = Evidence(url=auth.registration_url, words=failed.reason)
        run.fail(_CLIENT, f"The last sign-in failed here. {failed.reason}", asked, fixes=by_hand)
        return
    try:
        answer = _ask_in_vain(run, auth.registration_url)
    except UpstreamError as error:
        run.fail_with(_CLIENT, error, Evidence(url=auth.registration_url), fixes=by_hand)
        return
    document = read_json_object(answer.body) or {}
    words = describe_error(document)
    asked = Evidence(auth.registration_url, answer.status, words)
    if _refuses_aster(answer, document):
        reason = words or f"no reason given (HTTP {answer.status})"
        run.fail(_CLIENT, f"The provider refuses to register clients: {reason}", asked, fixes=by_hand)
    elif answer.status in (404, 405):
        run.fail(_CLIENT, "Nobody registers clients at the address the provider names.", asked, fixes=by_hand)
    elif answer.status >= 500 or answer.status == 429:
        words = f"The provider's registration may be in trouble (HTTP {answer.status})."
        run.warn(_CLIENT, words, asked, advice="Aster registers itself when the first person connects.")
    else:
        run.ok(_CLIENT, "Aster will register itself when the first person connects.", asked)


def _ask_in_vain(run: Run, url: str) -> Answer:
    headers = {"content-type": "application/json"}
    seconds = run.left(REGISTRATION_SECONDS)
    return send(egress.client(), "POST", url, step="registration", headers=headers, content=_UNUSABLE, seconds=seconds)


def _refuses_aster(answer: Answer, document: Mapping[str, object]) -> bool:
    """Whether the answer is a no to Aster, and not only to a body that is none."""
    if answer.status in (401, 403):
        return True
    return answer.status == 400 and read_error(document) not in _ABOUT_THE_BODY
