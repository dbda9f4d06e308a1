"""Clients whose id is the URL of a document about them (Client ID Metadata Document, draft-ietf-oauth, MCP)."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from django.core.cache import cache
from django.db import IntegrityError, transaction
from django.utils import timezone
from oauth2_provider.models import Application

from agents.authorization_server import redirects
from agents.authorization_server.registration import Refused, check_grants, read_name
from agents.authorization_server.tokens import digest
from aster import egress
from aster.errors import AsterError, UpstreamError
from integrations.oauth.sender import Answer, read_json_object, send

MAX_BYTES, SECONDS = 32 * 1024, 5.0
SHORTEST, LONGEST = timedelta(minutes=5), timedelta(days=1)
FAILED_SECONDS = 60
MAX_LENGTH = 255


def learn_client(client_id: str) -> Application | None:
    """The client with this id; one with a document is read anew when its time has come.

    A document that cannot be read now does not end what was agreed to before. Raises AsterError with the reason when
    the client was never seen and its document is no use. Asks the network: for a signed-in person's request only.
    """
    known: Application | None = Application.objects.filter(client_id=client_id).first()
    if not is_document_url(client_id) or (known and not _is_due(known)):
        return known
    failed = f"client-document:{digest(client_id)}"
    words = cache.get(failed)
    if words and known:
        return known
    if words:
        raise UpstreamError(words, step="registration")
    try:
        document, lifetime = _fetch(client_id)
        return store_document(client_id, document, lifetime, known)
    except AsterError as error:
        cache.set(failed, error.message, FAILED_SECONDS)
        if known:
            return known
        raise


def is_document_url(client_id: str) -> bool:
    """An https URL with a path, and nothing that would let two URLs be one document, or look like one (CIMD §3).

    http passes here for the sake of trials on one machine; the egress guard lets it reach loopback with DEBUG only.
    """
    try:
        parts = urlsplit(client_id)
        host, _port = parts.hostname, parts.port
    except ValueError:
        return False
    clean = "@" not in parts.netloc and "#" not in client_id and len(client_id) <= MAX_LENGTH
    clean = clean and redirects.is_spelled_out(client_id)
    dots = any(segment in (".", "..") for segment in parts.path.split("/"))
    return parts.scheme in ("https", "http") and bool(host) and len(parts.path) > 1 and clean and not dots


def host_of_client(client: Application) -> str:
    """Who vouches for the client: the host of its document. Empty for one that only names itself."""
    is_document = client.registration_source == Application.RegistrationSource.CIMD
    return urlsplit(client.client_id).netloc if is_document else ""


def _is_due(known: Application) -> bool:
    is_document = known.registration_source == Application.RegistrationSource.CIMD
    return is_document and (known.cimd_expires_at is None or known.cimd_expires_at <= timezone.now())


def _fetch(url: str) -> tuple[dict[str, Any], timedelta]:
    egress.check_url(url)
    answer = send(egress.client(), "GET", url, step="registration", seconds=SECONDS)
    document = read_json_object(answer.body) if len(answer.body) <= MAX_BYTES else None
    if answer.status != 200 or document is None:
        words = f"{urlsplit(url).netloc} does not describe the app at {url}."
        raise UpstreamError(words, step="registration")
    if document.get("client_id") != url:
        # Otherwise a document could speak for another client (CIMD §4).
        raise Refused(f"The document at {url} is about another client.")
    return document, _lifetime(answer)


def _lifetime(answer: Answer) -> timedelta:
    """How long the answer may be kept (RFC 9111 §5.2.2), within bounds of ours."""
    control = answer.headers.get("cache-control", "").lower()
    if "no-store" in control or "no-cache" in control:
        return SHORTEST
    named = re.search(r"max-age\s*=\s*(\d{1,9})", control)
    return max(SHORTEST, min(LONGEST, timedelta(seconds=int(named.group(1))))) if named else LONGEST


def store_document(url: str, document: dict[str, Any], lifetime: timedelta, known: Application | None) -> Application:
    if document.get("token_endpoint_auth_method", "none") != "none" or "client_secret" in document:
        raise Refused(f"The app at {urlsplit(url).netloc} wants to prove itself in a way that Aster does not know.")
    check_grants(document)
    listed = document.get("redirect_uris")
    # One that Aster would not send a code to does not spoil the others: nobody else wrote this list for us.
    uris = [uri for uri in listed[:50] if not redirects.problem_with(uri)] if isinstance(listed, list) else []
    if not uris:
        raise Refused(f"The document at {url} names no redirect URI that Aster can use.", code="invalid_redirect_uri")
    client = known or Application(client_id=url)
    client.name, client.redirect_uris = read_name(document), " ".join(uris[: redirects.MOST])
    client.cimd_expires_at = timezone.now() + lifetime
    client.client_type, client.client_secret, client.hash_client_secret = Application.CLIENT_PUBLIC, "", False
    client.authorization_grant_type = Application.GRANT_AUTHORIZATION_CODE
    client.registration_source = Application.RegistrationSource.CIMD
    try:
        with transaction.atomic():
            client.save()
    except IntegrityError:  # two people came with it at the same moment
        return Application.objects.get(client_id=url)
    return client
