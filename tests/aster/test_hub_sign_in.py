"""Signing in to the hub: members get in, guessing is slowed down."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client
from pytest_django.fixtures import Settings

from aster.accounts import sign_in
from aster.accounts.models import User
from tests.conftest import PASSWORD, Person
from tests.databases import redis_url

__all__ = ["redis_url"]


@pytest.fixture(autouse=True)
def _forget_failures() -> None:
    cache.clear()


def try_in(email: str, password: str, client: Client | None = None, **extra: Any) -> Any:
    form = {"username": email, "password": password, "next": "/hub/agents/"}
    return (client or Client()).post("/hub/login/?next=/hub/agents/", form, **extra)


def test_a_member_who_is_not_staff_signs_in_and_lands_where_they_wanted(bob: Person) -> None:
    assert not bob.user.is_staff
    client = Client()
    assert try_in("BOB@acme.test", PASSWORD, client)["Location"] == "/hub/agents/"
    assert client.get("/hub/agents/").status_code == 200


def test_the_form_asks_for_an_e_mail_address(db: None) -> None:
    page = Client().get("/hub/login/").content.decode()
    assert "E-mail address" in page
    assert 'autocomplete="username"' in page
    assert 'autocomplete="current-password"' in page


@pytest.mark.parametrize("email", ["bob@acme.test", "nobody@acme.test"])
def test_a_wrong_password_and_an_unknown_address_get_the_same_words(bob: Person, email: str) -> None:
    page = try_in(email, "wrong").content.decode()
    assert "do not belong together" in page


def test_who_comes_back_from_a_provider_is_told_what_the_sign_in_is_for(bob: Person) -> None:
    client = Client()
    callback = client.get("/api/mcp/oauth/callback?state=s&code=c")
    assert "Sign in to finish connecting" in client.get(callback["Location"]).content.decode()
    wrong = {"username": bob.user.email, "password": "wrong", "next": "/api/mcp/oauth/callback?state=s&code=c"}
    assert "Sign in to finish connecting" in client.post("/hub/login/", wrong).content.decode()
    assert "finish connecting" not in client.get("/hub/login/").content.decode()


def test_next_never_leaves_the_hub(bob: Person) -> None:
    form = {"username": bob.user.email, "password": PASSWORD, "next": "https://evil.test/"}
    assert Client().post("/hub/login/", form)["Location"] == "/hub/"


def test_ten_failures_stop_even_the_right_password_for_a_while(bob: Person) -> None:
    for _ in range(sign_in.MAX_FAILURES):
        assert "do not belong together" in try_in(bob.user.email, "wrong").content.decode()
    page = try_in(bob.user.email, PASSWORD).content.decode()
    assert "Too many attempts. Try again in 10 minutes." in page


def test_the_brake_is_per_person_and_address(alice: Person, bob: Person) -> None:
    for _ in range(sign_in.MAX_FAILURES):
        try_in(bob.user.email, "wrong")
    assert try_in(alice.user.email, PASSWORD).status_code == 302
    assert try_in(bob.user.email, PASSWORD, REMOTE_ADDR="192.0.2.9").status_code == 302


@pytest.mark.parametrize(
    ("address", "same", "other"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", "2001:db8:0:1::1"),
        ("::ffff:192.0.2.1", "192.0.2.1", "::ffff:192.0.2.2"),
        ("unknown", "unknown", "192.0.2.1"),
    ],
)
def test_an_ipv6_network_counts_as_one_address(bob: Person, address: str, same: str, other: str) -> None:
    for _ in range(sign_in.MAX_FAILURES):
        sign_in.Brake(bob.user.email, address).note_failure()
    assert sign_in.Brake(bob.user.email, same).minutes_left()
    assert not sign_in.Brake(bob.user.email, other).minutes_left()


@pytest.mark.parametrize(
    ("proxies", "from_here", "from_there"),
    [
        # Each proxy adds whom it saw; what stands before that anybody may have written.
        (1, "203.0.113.5", "203.0.113.6"),
        (1, "1.1.1.1, 203.0.113.5:4711", "1.1.1.1, 203.0.113.6:4711"),
        (2, "1.1.1.1, 203.0.113.5, 10.0.0.1", "1.1.1.1, 203.0.113.6, 10.0.0.1"),
    ],
)
def test_behind_proxies_the_brake_knows_who_is_who(
    bob: Person, settings: Settings, proxies: int, from_here: str, from_there: str
) -> None:
    settings.ASTER_PROXIES = proxies
    for _ in range(sign_in.MAX_FAILURES):
        try_in(bob.user.email, "wrong", headers={"X-Forwarded-For": from_here})
    forged = from_here.replace("1.1.1.1", "2.2.2.2").replace("4711", "4712")
    assert "Too many" in try_in(bob.user.email, PASSWORD, headers={"X-Forwarded-For": forged}).content.decode()
    assert try_in(bob.user.email, PASSWORD, headers={"X-Forwarded-For": from_there}).status_code == 302


def test_without_a_proxy_nobody_chooses_their_own_address(bob: Person) -> None:
    for number in range(sign_in.MAX_FAILURES):
        try_in(bob.user.email, "wrong", headers={"X-Forwarded-For": f"203.0.113.{number}"})
    page = try_in(bob.user.email, PASSWORD, headers={"X-Forwarded-For": "203.0.113.99"})
    assert "Too many attempts" in page.content.decode()


def test_success_forgets_the_failures(bob: Person) -> None:
    for _ in range(sign_in.MAX_FAILURES - 1):
        try_in(bob.user.email, "wrong")
    assert try_in(bob.user.email, PASSWORD).status_code == 302
    assert "do not belong together" in try_in(bob.user.email, "wrong").content.decode()


def test_the_brake_lets_go_when_its_time_is_over(bob: Person) -> None:
    brake = sign_in.Brake(bob.user.email, "127.0.0.1")
    for _ in range(sign_in.MAX_FAILURES):
        brake.note_failure()
    assert brake.minutes_left() == 10
    cache.delete(brake._count)
    assert brake.minutes_left() == 0


def test_nobody_is_locked_out_by_a_cache_that_is_down(
    bob: Person, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://127.0.0.1:9/0"}
    }
    assert "do not belong together" in try_in(bob.user.email, "wrong").content.decode()
    assert try_in(bob.user.email, PASSWORD).status_code == 302
    assert "Failed sign-ins are not counted" in caplog.text


@pytest.mark.redis
def test_the_brake_counts_in_redis_too(bob: Person, settings: Settings, redis_url: str) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": redis_url}}
    for _ in range(sign_in.MAX_FAILURES):
        try_in(bob.user.email, "wrong")
    assert "Too many attempts" in try_in(bob.user.email, PASSWORD).content.decode()
    cache.clear()


def test_an_inactive_person_does_not_get_in(bob: Person) -> None:
    User.objects.filter(pk=bob.user.pk).update(is_active=False)
    assert try_in(bob.user.email, PASSWORD).status_code == 200


def test_a_person_without_an_organization_is_told_so(db: None) -> None:
    User.objects.create_user("lone@acme.test", PASSWORD)
    client = Client()
    try_in("lone@acme.test", PASSWORD, client)
    assert client.get("/hub/agents/").status_code == 403
