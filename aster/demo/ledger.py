"""Who holds which code and token at the demo provider. Thread-safe; survives a restart when given a file."""

from __future__ import annotations

import json
import logging
import os
import secrets
import tempfile
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aster.demo.records import Client, Code, Grant, digest

logger = logging.getLogger(__name__)

CODE_SECONDS = 60
MAX_CLIENTS = 1000
MAX_SPENT = 5000


class LedgerFull(Exception):
    """Registration is open to everybody, so the number of clients has an end."""


class Ledger:
    """Clients, codes, access tokens and refresh tokens, all keyed by digest: the file holds nothing that can be used.

    A *family* is everything that grew out of one consent. Refreshing stays within it, and revoking it ends all of it.
    """

    def __init__(self, *, clock: Callable[[], float], path: Path | None = None) -> None:
        self.clock = clock
        self.path = path
        self.lock = threading.RLock()
        self.clients: dict[str, Client] = {}
        self.codes: dict[str, Code] = {}
        self.spent: dict[str, str] = {}
        self.access: dict[str, tuple[Grant, float]] = {}
        self.refresh: dict[str, Grant] = {}
        self._load()

    def add_client(self, client: Client) -> None:
        """Store a client. Raises LedgerFull when open registration has been used up."""
        with self.lock:
            if len(self.clients) >= MAX_CLIENTS and client.client_id not in self.clients:
                raise LedgerFull
            self.clients[client.client_id] = client
            self._save()

    def issue_code(self, grant: Grant, *, redirect_uri: str, challenge: str) -> str:
        """Return a fresh single-use code for an approved consent; it lives `CODE_SECONDS`."""
        with self.lock:
            self._forget_expired()
            code = secrets.token_urlsafe(32)
            self.codes[digest(code)] = Code(grant, redirect_uri, challenge, self.clock() + CODE_SECONDS)
            return code

    def redeem_code(self, code: str) -> Code | None:
        """Take the code out of circulation and return it; None if unknown, expired or used before.

        A second use means the code leaked, so what the first use brought is revoked too (RFC 6749 section 4.1.2).
        """
        key = digest(code)
        with self.lock:
            if family := self.spent.get(key):
                self.revoke_families({family})
                return None
            found = self.codes.pop(key, None)
            if found is None or found.expires_at <= self.clock():
                return None
            self._spend(key, found.grant.family)
            return found

    def issue_access_token(self, grant: Grant, seconds: float) -> str:
        """Return a new access token for `grant` that is valid for `seconds`."""
        with self.lock:
            self._forget_expired()
            token = secrets.token_urlsafe(32)
            self.access[digest(token)] = (grant, self.clock() + seconds)
            self._save()
            return token

    def issue_refresh_token(self, grant: Grant) -> str:
        """Return a new refresh token for `grant`."""
        with self.lock:
            token = secrets.token_urlsafe(40)
            self.refresh[digest(token)] = grant
            self._save()
            return token

    def peek_refresh_token(self, token: str) -> Grant | None:
        """Return the grant of a live refresh token without spending it, so that a bad request costs nothing."""
        with self.lock:
            return self.refresh.get(digest(token))

    def use_refresh_token(self, token: str, client_id: str, *, rotate: bool, detect_reuse: bool) -> Grant | None:
        """Return the grant of a live refresh token of that client, else None.

        With `rotate` the token is spent by this call; with `detect_reuse` presenting a spent one revokes its family
        (RFC 9700 section 4.14.2).
        """
        key = digest(token)
        with self.lock:
            grant = self.refresh.get(key)
            if grant is None:
                if detect_reuse and (family := self.spent.get(key)):
                    self.revoke_families({family})
                return None
            if grant.client_id != client_id:
                return None
            if rotate:
                del self.refresh[key]
                self._spend(key, grant.family)
                self._save()
            return grant

    def lookup(self, access_token: str) -> Grant | None:
        """Return what a live access token stands for, else None."""
        found = self.lookup_with_expiry(access_token)
        return found[0] if found else None

    def lookup_with_expiry(self, access_token: str) -> tuple[Grant, float] | None:
        """Like `lookup`, with the moment of expiry in seconds of the clock."""
        with self.lock:
            found = self.access.get(digest(access_token))
            return found if found and found[1] > self.clock() else None

    def revoke_token(self, token: str, client_id: str) -> bool:
        """Revoke a token of that client: a refresh token ends its family, an access token only itself (RFC 7009)."""
        key = digest(token)
        with self.lock:
            if (grant := self.refresh.get(key)) and grant.client_id == client_id:
                self.revoke_families({grant.family})
                return True
            if (held := self.access.get(key)) and held[0].client_id == client_id:
                del self.access[key]
                self._save()
                return True
            return False

    def revoke_families(self, families: set[str]) -> None:
        """End every code and token that grew out of these consents."""
        with self.lock:
            self.codes = {key: code for key, code in self.codes.items() if code.grant.family not in families}
            self.access = {key: held for key, held in self.access.items() if held[0].family not in families}
            self.refresh = {key: grant for key, grant in self.refresh.items() if grant.family not in families}
            self.spent = {key: family for key, family in self.spent.items() if family not in families}
            self._save()

    def revoke_person(self, name: str) -> int:
        """End all grants of a person; returns how many consents that were."""
        with self.lock:
            grants = [*self.refresh.values(), *(held[0] for held in self.access.values())]
            grants += [code.grant for code in self.codes.values()]
            families = {grant.family for grant in grants if grant.person == name}
            self.revoke_families(families)
            return len(families)

    def expire_access_tokens(self) -> None:
        """Make every access token useless now; refresh tokens stay."""
        with self.lock:
            self.access.clear()
            self._save()

    def _spend(self, key: str, family: str) -> None:
        self.spent[key] = family
        if len(self.spent) > MAX_SPENT:
            del self.spent[next(iter(self.spent))]

    def _forget_expired(self) -> None:
        now = self.clock()
        self.codes = {key: code for key, code in self.codes.items() if code.expires_at > now}
        self.access = {key: held for key, held in self.access.items() if held[1] > now}

    def _save(self) -> None:
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # A reader, or a crash, sees the old file or the new one, never half of it. mkstemp gives mode 0600.
        descriptor, draft = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        try:
            with os.fdopen(descriptor, "w") as file:
                json.dump(self._as_json(), file)
            Path(draft).replace(self.path)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise

    def _as_json(self) -> dict[str, Any]:
        return {
            "clients": [asdict(client) for client in self.clients.values()],
            "access": {key: [asdict(grant), expires_at] for key, (grant, expires_at) in self.access.items()},
            "refresh": {key: asdict(grant) for key, grant in self.refresh.items()},
            "spent": self.spent,
        }

    def _load(self) -> None:
        if self.path is None or not self.path.exists():
            return
        try:
            stored = json.loads(self.path.read_text())
            clients = [Client(**{**row, **_tuples(row, "redirect_uris", "grant_types")}) for row in stored["clients"]]
            access = {key: (_grant(row), float(until)) for key, (row, until) in stored["access"].items()}
            refresh = {key: _grant(row) for key, row in stored["refresh"].items()}
            spent = dict(stored["spent"])
        except (ValueError, TypeError, KeyError, AttributeError):
            # The demo must start; losing it costs one more click on Connect.
            logger.warning("The demo provider's state file %s is not readable; starting empty.", self.path)
            return
        self.clients = {client.client_id: client for client in clients}
        self.access, self.refresh, self.spent = access, refresh, spent


def _grant(row: dict[str, Any]) -> Grant:
    return Grant(**{**row, **_tuples(row, "scopes")})


def _tuples(row: dict[str, Any], *names: str) -> dict[str, tuple[str, ...]]:
    return {name: tuple(row[name]) for name in names}
