"""Secrets at rest: encrypted, rotated while running, and never lost to a missing key."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from pytest_django.fixtures import Settings

from aster import crypto
from integrations.models import AuthConfig
from tests.conftest import Person

SECRET = "canary-7f3a"


def stored_bytes(column: str) -> bytes:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {column} FROM integrations_authconfig")
        return bytes(cursor.fetchone()[0])


@pytest.fixture
def config(alice: Person) -> AuthConfig:
    return AuthConfig.objects.create(
        organization=alice.organization, name="Key", auth_type="BEARER", token=SECRET, custom_headers={"X-Key": SECRET}
    )


def test_the_database_holds_no_plain_secret(config: AuthConfig) -> None:
    for column in ("token", "custom_headers"):
        assert SECRET.encode() not in stored_bytes(column)
    read = AuthConfig.objects.get()
    assert (read.token, read.custom_headers) == (SECRET, {"X-Key": SECRET})


def test_the_same_value_never_looks_the_same_twice() -> None:
    assert crypto.encrypt(SECRET) != crypto.encrypt(SECRET)


def test_a_new_first_key_still_reads_what_the_old_one_wrote(config: AuthConfig, settings: Settings) -> None:
    settings.ASTER_ENCRYPTION_KEYS = ["a-new-key", *settings.ASTER_ENCRYPTION_KEYS]
    assert AuthConfig.objects.get().token == SECRET
    assert not crypto.is_current(stored_bytes("token"))


def test_rotation_rewrites_everything_so_that_the_old_key_can_go(config: AuthConfig, settings: Settings) -> None:
    settings.ASTER_ENCRYPTION_KEYS = ["a-new-key", *settings.ASTER_ENCRYPTION_KEYS]
    out = StringIO()
    call_command("rotate_keys", stdout=out)
    assert "AuthConfig.token: 1 rewritten" in out.getvalue()
    settings.ASTER_ENCRYPTION_KEYS = ["a-new-key"]
    read = AuthConfig.objects.get()
    assert (read.token, read.custom_headers) == (SECRET, {"X-Key": SECRET})


def test_a_lost_key_empties_the_value_but_saving_the_row_keeps_the_bytes(
    config: AuthConfig, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    before, keys = stored_bytes("token"), settings.ASTER_ENCRYPTION_KEYS
    settings.ASTER_ENCRYPTION_KEYS = ["another"]
    read = AuthConfig.objects.get()
    assert not read.token
    assert not read.custom_headers
    read.name = "Renamed"
    read.save()
    assert stored_bytes("token") == before
    with pytest.raises(CommandError, match="open with none of the keys"):
        call_command("rotate_keys", stdout=StringIO())
    settings.ASTER_ENCRYPTION_KEYS = keys
    assert AuthConfig.objects.get().token == SECRET
    assert SECRET not in caplog.text


def test_an_altered_value_is_not_opened(config: AuthConfig) -> None:
    stored = stored_bytes("token")
    with pytest.raises(crypto.DecryptionFailed):
        crypto.decrypt(stored[:-1] + bytes([stored[-1] ^ 1]))


def test_keys_are_shown_once_and_matched_in_constant_time() -> None:
    key = crypto.SecretKey.make("ask")
    assert crypto.SecretKey.lookup_of(key.text, "ask") == key.lookup
    assert crypto.matches(key.text, key.digest)
    assert not crypto.matches(key.text + "x", key.digest)
    assert key.text not in repr(key)
    for odd in ("", "ask", "ask_short_x", "xyz_000000000000_x"):
        assert crypto.SecretKey.lookup_of(odd, "ask") is None


def test_a_secret_that_is_not_set_needs_no_key(config: AuthConfig, settings: Settings) -> None:
    config.token, config.custom_headers = "", {}
    config.save()
    assert stored_bytes("token") == stored_bytes("custom_headers") == b""
    settings.ASTER_ENCRYPTION_KEYS = ["another"]
    stored = AuthConfig.objects.get()
    assert (stored.token, stored.custom_headers) == ("", {})
    assert not crypto.is_unreadable(stored.token)
