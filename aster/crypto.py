"""Secrets at rest: a key ring, two encrypted model fields, and keys that are shown once.

Built on django_cryptography's Fernet and field mixin, with three differences from its `encrypt()`: the payload is JSON
(never pickle), the keys come from `ASTER_ENCRYPTION_KEYS` through HKDF (RFC 5869), and every value names the key that
wrote it, so that keys can be rotated while the application runs (docs/operations.md).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import secrets
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import models
from django_cryptography.core.signing import BadSignature, FernetSigner
from django_cryptography.fields import EncryptedMixin
from django_cryptography.utils.crypto import FernetBytes, InvalidToken

logger = logging.getLogger(__name__)

_FORMAT = b"a1"
_KEY_ID_BYTES = 4
# How "not set" is stored. Its length would tell in any case, and most secret fields of most rows are empty.
NOTHING = b""


class DecryptionFailed(Exception):
    """No key of the ring opens this value, or it was altered."""


def _derive(key: str, purpose: bytes, length: int = 32) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=b"aster", info=purpose).derive(key.encode())


@dataclass(frozen=True)
class _RingKey:
    key_id: bytes
    fernet: FernetBytes


@lru_cache(maxsize=8)
def _ring(keys: tuple[str, ...]) -> tuple[_RingKey, ...]:
    if not keys:
        raise ImproperlyConfigured("ASTER_ENCRYPTION_KEYS is empty.")
    return tuple(
        _RingKey(
            _derive(key, b"key-id", _KEY_ID_BYTES),
            FernetBytes(_derive(key, b"encrypt"), FernetSigner(_derive(key, b"sign"))),
        )
        for key in keys
    )


def _current_ring() -> tuple[_RingKey, ...]:
    return _ring(tuple(settings.ASTER_ENCRYPTION_KEYS))


def encrypt(value: Any) -> bytes:
    """JSON-encode `value` and encrypt it with the first key of the ring."""
    key = _current_ring()[0]
    return _FORMAT + key.key_id + key.fernet.encrypt(json.dumps(value).encode())


def decrypt(stored: bytes) -> Any:
    """Open a value written by `encrypt()`. Raises DecryptionFailed."""
    head = len(_FORMAT) + _KEY_ID_BYTES
    key_id = stored[len(_FORMAT) : head]
    for key in _current_ring():
        if stored.startswith(_FORMAT) and key.key_id == key_id:
            try:
                return json.loads(key.fernet.decrypt(stored[head:]))
            except (BadSignature, InvalidToken, ValueError):
                break
    raise DecryptionFailed


def is_current(stored: bytes) -> bool:
    """Whether the first key of the ring wrote this value (otherwise `rotate_keys` rewrites it)."""
    return stored == NOTHING or stored.startswith(_FORMAT + _current_ring()[0].key_id)


class _Unreadable:
    """A value no key opens. It is empty to every reader, and saving the row writes the stored bytes back unchanged."""

    stored: bytes


class _UnreadableText(_Unreadable, str):
    __slots__ = ("stored",)


class _UnreadableDict(_Unreadable, dict[str, Any]):
    pass


def is_unreadable(value: object) -> bool:
    """Whether `value`, read from an encrypted field, looks empty only because no key of the ring opens it."""
    return isinstance(value, _Unreadable)


class _EncryptedField(EncryptedMixin):
    """Stores ciphertext; has no lookups but `isnull`; never serialised by `dumpdata`."""

    _empty: type[Any]
    _unreadable: type[_Unreadable]

    def _dump(self, value: Any) -> bytes:
        if isinstance(value, _Unreadable):
            return value.stored
        return encrypt(value) if value else NOTHING

    def _load(self, value: bytes) -> Any:
        if value == NOTHING:
            return self._empty()
        try:
            return decrypt(value)
        except DecryptionFailed:
            logger.error("A stored secret of %s cannot be read with ASTER_ENCRYPTION_KEYS.", self)
            unreadable = self._unreadable()
            unreadable.stored = value
            return unreadable

    def deconstruct(self) -> Any:
        name, _path, args, kwargs = models.Field.deconstruct(self)
        return name, f"aster.crypto.{type(self).__name__}", args, kwargs

    def clone(self) -> Any:
        _name, _path, args, kwargs = self.deconstruct()
        return type(self)(*args, **kwargs)

    def value_to_string(self, obj: models.Model) -> str:
        return "[REDACTED]"


class EncryptedTextField(_EncryptedField, models.TextField):  # type: ignore[type-arg]
    """A secret string. Empty means "not set"."""

    base_class = models.TextField
    wasinstance = True
    _empty = str
    _unreadable = _UnreadableText


class EncryptedJSONField(_EncryptedField, models.JSONField):  # type: ignore[misc]
    """A secret mapping, such as headers."""

    base_class = models.JSONField
    wasinstance = True
    _empty = dict
    _unreadable = _UnreadableDict

    def from_db_value(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        return EncryptedMixin.from_db_value(self, value, *args, **kwargs)

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        return EncryptedMixin.get_db_prep_value(self, value, connection, prepared)


@dataclass(frozen=True)
class SecretKey:
    """A key that is shown once: `prefix_lookup_secret`. Only `lookup` and `digest` are stored.

    256 random bits need no slow hash; SHA-256 makes the stored form useless to a thief.
    """

    text: str
    lookup: str
    digest: str

    def __repr__(self) -> str:
        return f"SecretKey(lookup={self.lookup!r})"

    @classmethod
    def make(cls, prefix: str) -> SecretKey:
        lookup = secrets.token_hex(6)
        text = f"{prefix}_{lookup}_{secrets.token_urlsafe(32)}"
        return cls(text, lookup, digest(text))

    @staticmethod
    def lookup_of(text: str, prefix: str) -> str | None:
        """The lookup part of a presented key, or None if it does not have the shape of one."""
        parts = text.split("_", 2)
        return parts[1] if len(parts) == 3 and parts[0] == prefix and len(parts[1]) == 12 else None


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def matches(text: str, stored_digest: str) -> bool:
    return hmac.compare_digest(digest(text), stored_digest)
