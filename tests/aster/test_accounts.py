"""Organizations, people, roles and keys: who may do what, and that every change leaves its row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from django.contrib.auth.tokens import default_token_generator
from django.utils import timezone

from aster.accounts import services
from aster.accounts.access import CALL, CONNECT, MANAGE, READ, Actor, covers, find_actor
from aster.accounts.models import ApiKey, AuditEvent, Membership, Organization, User, unique_slug
from aster.errors import Conflict, InvalidInput, NotAllowed, NotFound
from tests.conftest import PASSWORD, Person

pytestmark = pytest.mark.django_db

HIERARCHY = {"admin": ["*"], "files:admin": ["files:write"], "files:write": ["files:read"], "loop": ["loop"]}


@pytest.mark.parametrize(
    ("held", "needed", "enough"),
    [
        (["*"], "anything", True),
        (["admin"], "files:read", True),
        (["files:admin"], "files:read", True),
        (["files:read"], "files:write", False),
        (["loop"], "files:read", False),
        ([MANAGE], READ, True),
        ([CALL], MANAGE, False),
        ([], READ, False),
    ],
)
def test_scopes_include_what_their_hierarchy_says(held: list[str], needed: str, enough: bool) -> None:
    assert covers(held, needed, HIERARCHY) is enough


@pytest.mark.parametrize(
    ("held", "needed", "enough"),
    [
        ("files:*", "files:read", True),
        ("files:*", "files:write:drafts", True),
        ("files:*", "filesystem:read", False),
        ("files:*", "files", False),
        ("files:*", "*", False),
        ("files:write:*", "files:write:drafts", True),
        ("files:write:*", "files:read", False),
        # What the scopes inside include, it includes too.
        ("files:*", "storage:put", True),
        ("teams:*", "anything", True),
        ("helper", "notes:read", True),
        ("fil*", "files:read", False),
        ("*:read", "files:read", False),
        (":*", "files:read", False),
        ("files:**", "files:read", False),
        ("files:*", MANAGE, False),
        ("aster:*", READ, True),
        ("aster:*", MANAGE, True),
        ("aster:*", CALL, True),
        ("aster:*", "aster:payroll", False),
        ("aster:*", "payroll:read", False),
        ("aster:*", "*", False),
    ],
)
def test_a_star_at_the_end_of_a_scope_is_all_that_begins_so(held: str, needed: str, enough: bool) -> None:
    hierarchy = {
        "files:write": ["storage:put"],
        "teams:owner": ["*"],
        "helper": ["notes:*"],
        "aster:payroll": ["payroll:read"],
    }
    assert covers([held], needed, hierarchy) is enough


def test_a_key_with_a_star_makes_no_stronger_key(alice: Person) -> None:
    actor = replace(alice.actor, scopes=frozenset({"files:*", MANAGE}))
    for scopes in (["files:*"], ["files:read", "files:write:*"]):
        services.create_api_key(alice.user, name="as strong", scopes=scopes, actor=actor)
    for scopes in (["*"], ["calendar:*"], [CONNECT]):
        with pytest.raises((NotAllowed, InvalidInput)):
            services.create_api_key(alice.user, name="stronger", scopes=scopes, actor=actor)
    weaker = replace(actor, scopes=frozenset({"files:read", MANAGE}))
    with pytest.raises(NotAllowed):
        services.create_api_key(alice.user, name="stronger", scopes=["files:*"], actor=weaker)
    with pytest.raises(InvalidInput, match=r"Unknown scope aster:\*"):
        services.create_api_key(alice.user, name="x", scopes=["aster:*"], actor=alice.actor)


def test_an_organization_starts_with_its_admin_and_an_audit_row() -> None:
    organization, user = services.create_organization("Initech", admin_email="P@Initech.test", password=PASSWORD)
    assert (organization.slug, user.email) == ("initech", "p@initech.test")
    assert Membership.objects.get().role == "admin"
    assert AuditEvent.objects.get().action == "created"


def test_an_existing_person_keeps_their_password(alice: Person) -> None:
    services.create_organization("Second", admin_email="ALICE@acme.test", password="another-password")
    alice.user.refresh_from_db()
    assert alice.user.check_password(PASSWORD)
    assert alice.user.organizations.count() == 2


@pytest.mark.parametrize(
    ("name", "email", "password"), [("", "a@b.co", None), ("X", "nonsense", None), ("X", "a@b.co", "short")]
)
def test_a_refused_organization_leaves_nothing(name: str, email: str, password: str | None) -> None:
    with pytest.raises(InvalidInput):
        services.create_organization(name, admin_email=email, password=password)
    assert not Organization.objects.exists()
    assert not User.objects.exists()


def test_slugs_are_unique_and_never_numbers_alone(db: None) -> None:
    for expected in ("acme", "acme-2", "acme-3"):
        slug = unique_slug("Acme", Organization.objects.all())
        Organization.objects.create(name="Acme", slug=slug)
        assert slug == expected
    assert unique_slug("12", Organization.objects.all()) == "n-12"
    assert unique_slug("Add", Organization.objects.all()) == "add-2"
    assert unique_slug("🙂", Organization.objects.all()) == "item"


def test_a_new_member_gets_a_link_to_choose_a_password(alice: Person) -> None:
    added = services.add_member("dora@acme.test", "member", actor=alice.actor)
    assert added.set_password_path
    token = added.set_password_path.rstrip("/").rsplit("/", 1)[1]
    assert default_token_generator.check_token(added.membership.user, token)


def test_an_admin_cannot_take_over_somebody_of_another_organization(alice: Person, charlie: Person) -> None:
    for email in (charlie.user.email, "new@globex.test"):
        if email.startswith("new"):
            assert services.add_member(email, "member", actor=charlie.actor).set_password_path
        with pytest.raises(Conflict, match="account in another organization"):
            services.add_member(email, "member", actor=alice.actor)
    assert charlie.user.check_password(PASSWORD)


def test_a_member_may_not_change_people_or_see_other_keys(alice: Person, bob: Person) -> None:
    membership = Membership.objects.get(user=alice.user)
    refused: list[Callable[[], object]] = [
        lambda: services.add_member("x@acme.test", "member", actor=bob.actor),
        lambda: services.change_role(membership, "member", actor=bob.actor),
        lambda: services.remove_member(membership, actor=bob.actor),
        lambda: services.create_api_key(alice.user, name="x", actor=bob.actor),
        lambda: services.update_organization(bob.organization, actor=bob.actor),
    ]
    for attempt in refused:
        with pytest.raises(NotAllowed):
            attempt()
    key, _ = services.create_api_key(alice.user, name="x", actor=alice.actor)
    with pytest.raises(NotFound):
        services.find_api_key(key.pk, actor=bob.actor)


def test_the_last_admin_stays(alice: Person, bob: Person) -> None:
    membership = Membership.objects.get(user=alice.user)
    with pytest.raises(Conflict, match="at least one admin"):
        services.change_role(membership, "member", actor=alice.actor)
    with pytest.raises(Conflict, match="at least one admin"):
        services.remove_member(membership, actor=alice.actor)
    services.change_role(Membership.objects.get(user=bob.user), "admin", actor=alice.actor)
    services.remove_member(membership, actor=alice.actor)
    assert find_actor(alice.user, None) is None


def test_leaving_ends_the_persons_keys_at_once(alice: Person, bob: Person) -> None:
    text = bob.key()
    assert services.authenticate_key(text)
    services.remove_member(Membership.objects.get(user=bob.user), actor=alice.actor)
    assert services.authenticate_key(text) is None
    assert ApiKey.objects.get().revoked_at
    assert AuditEvent.objects.get(action="revoked", object_type="apikey").actor == alice.user


def test_a_key_acts_as_its_owner_within_its_scopes(bob: Person) -> None:
    actor = services.authenticate_key(bob.key(READ))
    assert actor is not None
    assert (actor.user, actor.organization, actor.role) == (bob.user, bob.organization, "member")
    assert actor.holds(READ)
    assert not actor.holds(CALL)


def test_a_key_with_a_tool_scope_may_call(bob: Person) -> None:
    actor = services.authenticate_key(bob.key("files:read"))
    assert actor is not None
    assert actor.holds(CALL)
    assert not actor.holds(MANAGE)


def test_keys_that_are_wrong_expired_or_revoked_open_nothing(alice: Person) -> None:
    key, text = services.create_api_key(
        alice.user, name="x", expires_at=timezone.now() + timedelta(days=1), actor=alice.actor
    )
    assert services.authenticate_key(text)
    assert services.authenticate_key(text[:-1] + ("a" if text[-1] != "a" else "b")) is None
    ApiKey.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert services.authenticate_key(text) is None
    ApiKey.objects.update(expires_at=None)
    assert services.authenticate_key(text)
    services.revoke_api_key(key, actor=alice.actor)
    services.revoke_api_key(key, actor=alice.actor)
    assert services.authenticate_key(text) is None
    assert AuditEvent.objects.filter(action="revoked").count() == 1


def test_a_deactivated_person_is_out(alice: Person) -> None:
    text = alice.key()
    User.objects.update(is_active=False)
    assert services.authenticate_key(text) is None


def test_a_key_cannot_make_a_more_powerful_one(alice: Person) -> None:
    actor = services.authenticate_key(alice.key(MANAGE))
    assert actor is not None
    services.create_api_key(alice.user, name="same", scopes=[READ], actor=actor)
    for scopes in (["*"], [CALL]):
        with pytest.raises((InvalidInput, NotAllowed)):
            services.create_api_key(alice.user, name="more", scopes=scopes, actor=actor)


@pytest.mark.parametrize("scopes", [[], ["aster:everything"], ["with space"], ["x" * 101]])
def test_scopes_that_mean_nothing_are_refused(alice: Person, scopes: list[str]) -> None:
    with pytest.raises(InvalidInput):
        services.create_api_key(alice.user, name="x", scopes=scopes, actor=alice.actor)
    assert not ApiKey.objects.exists()


def test_the_key_itself_is_stored_nowhere(alice: Person) -> None:
    text = alice.key()
    row = ApiKey.objects.get()
    secret = text.rsplit("_", 1)[1]
    assert secret not in str(row.__dict__)
    assert secret not in str(list(AuditEvent.objects.values()))


def test_a_person_in_two_organizations_acts_in_the_chosen_one(alice: Person, charlie: Person) -> None:
    Membership.objects.create(organization=charlie.organization, user=alice.user, role="member")
    there = find_actor(alice.user, charlie.organization.pk)
    here = find_actor(alice.user, alice.organization.pk)
    assert there and here
    assert (there.role, here.role) == ("member", "admin")
    stranger = find_actor(charlie.user, alice.organization.pk)
    assert stranger and stranger.organization == charlie.organization


def test_aster_itself_is_nobody(alice: Person) -> None:
    with pytest.raises(NotAllowed):
        _ = Actor.system(alice.organization).person
