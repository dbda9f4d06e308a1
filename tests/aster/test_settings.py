"""Starting: secrets are made once, installations with a database of their own must bring theirs."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError

from aster.accounts.models import User
from aster.secrets_file import load_or_create

ROOT = Path(__file__).resolve().parents[2]


def start(*, say: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Start Aster in a process of its own; `say` is an expression over its settings to print."""
    env = {"PATH": os.environ["PATH"], **environment}
    then = f"; from django.conf import settings; print({say})" if say else ""
    command = [sys.executable, "-c", f"import django; django.setup(){then}"]
    return subprocess.run(command, cwd=ROOT, env={**env, "DJANGO_SETTINGS_MODULE": "aster.settings"},
                          capture_output=True, text=True, timeout=30, check=False)  # fmt: skip


def test_secrets_are_made_on_the_first_start_and_kept(tmp_path: Path) -> None:
    first = load_or_create(tmp_path / "secrets.json")
    assert load_or_create(tmp_path / "secrets.json") == first
    assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o600
    assert len(first["SECRET_KEY"]) >= 50


def test_two_first_starts_at_once_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: load_or_create(tmp_path / "secrets.json"), range(32)))
    assert all(one == made[0] for one in made)
    assert [path.name for path in tmp_path.iterdir()] == ["secrets.json"]


def test_an_installation_with_its_own_database_must_bring_its_secrets(tmp_path: Path) -> None:
    answer = start(DATABASE_URL="sqlite:///" + str(tmp_path / "db"), ASTER_DATA_DIR=str(tmp_path))
    assert answer.returncode != 0
    assert "Set SECRET_KEY" in answer.stderr
    assert not (tmp_path / "secrets.json").exists()


def test_debug_must_be_a_plain_yes_or_no(tmp_path: Path) -> None:
    answer = start(ASTER_DATA_DIR=str(tmp_path), DEBUG="maybe")
    assert "DEBUG must be 1 or 0, not 'maybe'" in answer.stderr
    assert start(ASTER_DATA_DIR=str(tmp_path), DEBUG="1").returncode == 0


@pytest.mark.parametrize(("given", "proxies"), [("2", 2), ("yes", 1)])
def test_proxies_are_counted_and_a_plain_yes_is_one(tmp_path: Path, given: str, proxies: int) -> None:
    answer = start(ASTER_DATA_DIR=str(tmp_path), ASTER_BEHIND_PROXY=given, say="settings.ASTER_PROXIES")
    assert answer.stdout.strip() == str(proxies), answer.stderr


@pytest.mark.parametrize("given", ["-1", "soon", "1.5", "99999", ""])
def test_how_long_things_are_kept_is_a_number_of_days(tmp_path: Path, given: str) -> None:
    answer = start(ASTER_DATA_DIR=str(tmp_path), ASTER_KEEP_CALLS_DAYS=given)
    assert f"ASTER_KEEP_CALLS_DAYS must be a number of days, or 0 for ever, not {given!r}" in answer.stderr


def test_calls_are_kept_for_a_year_and_changes_for_ever_unless_told_otherwise(tmp_path: Path) -> None:
    say = "settings.ASTER_KEEP_CALLS_DAYS, settings.ASTER_KEEP_AUDIT_DAYS"
    assert start(ASTER_DATA_DIR=str(tmp_path), say=say).stdout.strip() == "365 0"
    told = {"ASTER_KEEP_CALLS_DAYS": "0", "ASTER_KEEP_AUDIT_DAYS": "730"}
    assert start(ASTER_DATA_DIR=str(tmp_path), say=say, **told).stdout.strip() == "0 730"


def test_lists_may_be_written_with_spaces_and_the_public_host_is_always_allowed(tmp_path: Path) -> None:
    answer = start(
        ASTER_DATA_DIR=str(tmp_path),
        ASTER_PUBLIC_URL="https://aster.example.com",
        ALLOWED_HOSTS="aster.lan, backup.lan,",
        ASTER_ENCRYPTION_KEYS="new, old",
        say="settings.ALLOWED_HOSTS, settings.ASTER_ENCRYPTION_KEYS",
    )
    assert answer.stdout.strip() == "['aster.example.com', 'aster.lan', 'backup.lan'] ['new', 'old']", answer.stderr


def test_a_password_is_not_the_persons_name() -> None:
    with pytest.raises(ValidationError, match="too similar to the name"):
        validate_password("BenjaminOkafor", User(email="ben@acme.test", name="Benjamin Okafor"))


def test_registries_are_the_official_one_others_or_none(tmp_path: Path) -> None:
    say = "settings.ASTER_REGISTRIES"
    assert start(ASTER_DATA_DIR=str(tmp_path), say=say).stdout.strip() == "['https://registry.modelcontextprotocol.io']"
    assert start(ASTER_DATA_DIR=str(tmp_path), ASTER_REGISTRIES="", say=say).stdout.strip() == "[]"
    several = "https://a.test/, https://b.test/base,https://a.test"
    answer = start(ASTER_DATA_DIR=str(tmp_path), ASTER_REGISTRIES=several, say=say)
    assert answer.stdout.strip() == "['https://a.test', 'https://b.test/base']", answer.stderr


@pytest.mark.parametrize(
    "given", ["registry.test", "ftp://a.test", "https://user:canary@a.test", "https://a.test?key=canary"]
)
def test_an_address_of_a_registry_that_cannot_be_shown_is_refused(tmp_path: Path, given: str) -> None:
    answer = start(ASTER_DATA_DIR=str(tmp_path), ASTER_REGISTRIES=given)
    assert "ASTER_REGISTRIES must list addresses" in answer.stderr
    assert "canary" not in answer.stderr.rpartition("ImproperlyConfigured")[2]
