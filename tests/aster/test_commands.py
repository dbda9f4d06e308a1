"""The commands for people and keys: what they print, and whom and what they mean by a name."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from aster.accounts.models import ApiKey, Membership, Organization
from aster.accounts.services import authenticate_key
from tests.conftest import PASSWORD, Person

pytestmark = pytest.mark.django_db


def run(*command: str) -> str:
    out = StringIO()
    call_command(*command, stdout=out)
    return out.getvalue()


def make_key(*more: str) -> str:
    return run("create_api_key", "alice@acme.test", "--organization", "acme", *more)


def test_keys_without_a_name_can_be_told_apart(alice: Person) -> None:
    for _ in range(3):
        make_key()
    make_key("--name", "Nightly import")
    names = set(ApiKey.objects.values_list("name", flat=True))
    assert names == {"Command line", "Command line 2", "Command line 3", "Nightly import"}


def test_a_key_from_the_command_line_works_within_its_scopes(alice: Person) -> None:
    actor = authenticate_key(make_key("--scopes", "aster:read,files:read").split()[0])
    assert actor and (actor.user, actor.scopes) == (alice.user, {"aster:read", "files:read"})


def test_a_slug_means_its_organization_whatever_others_are_called(alice: Person) -> None:
    Organization.objects.create(name="acme", slug="impostor")
    make_key()
    assert ApiKey.objects.get().organization == alice.organization
    Organization.objects.create(name="Twin", slug="twin-1")
    Organization.objects.create(name="Twin", slug="twin-2")
    for name, problem in (("Twin", "not unique: use its slug"), ("Nobody", "does not exist")):
        with pytest.raises(CommandError, match=problem):
            run("add_member", "x@acme.test", "--organization", name)


def test_a_person_who_has_an_account_keeps_the_password_and_is_told_so(alice: Person) -> None:
    told = run("create_org", "Second", "--admin", alice.user.email, "--password", "another-password")
    assert "as before: this person has an account already" in told
    assert "another-password" not in told
    alice.user.refresh_from_db()
    assert alice.user.check_password(PASSWORD)


def test_the_command_line_adds_newcomers_with_a_link_and_others_without(alice: Person, charlie: Person) -> None:
    assert "/hub/set-password/" in run("add_member", "new@acme.test", "--organization", "Acme")
    told = run("add_member", charlie.user.email, "--organization", "acme", "--role", "admin")
    assert told == "charlie@globex.test is now admin of Acme.\n"
    assert Membership.objects.get(user=charlie.user, organization=alice.organization).role == "admin"
