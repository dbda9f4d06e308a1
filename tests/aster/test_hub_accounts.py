"""The hub's pages about people, keys, activity and settings, for an admin, a member and a stranger."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from agents.models import CallOutcome, ToolCall
from aster.accounts import services
from aster.accounts.audit_words import describe_changes
from aster.accounts.models import ApiKey, AuditEvent, Membership, Organization, Role, User
from tests.conftest import PASSWORD, Person


def text_of(response: Any) -> str:
    content: bytes = response.getvalue() if response.streaming else response.content
    return content.decode()


def count_queries(client: Client, url: str) -> int:
    client.get(url)
    with CaptureQueriesContext(connection) as queries:
        assert client.get(url).status_code == 200
    return len(queries)


# --- Who may see what -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "admin", "member"),
    [
        ("members/", 200, 200),
        ("members/add/", 200, 403),
        ("api-keys/", 200, 200),
        ("api-keys/add/", 200, 200),
        ("activity/", 200, 200),
        ("activity/calls/", 200, 200),
        ("activity/export/", 200, 200),
        ("organization/", 200, 403),
        ("password_change/", 200, 200),
        ("accounts/user/", 200, 403),
        ("accounts/membership/", 200, 200),
        ("accounts/apikey/", 200, 200),
        ("accounts/auditevent/", 200, 200),
        ("agents/agent/", 200, 200),
        ("agents/toolcall/", 200, 200),
        ("agents/llmconfig/", 200, 403),
    ],
)
def test_pages_open_for_whom_they_are_meant(alice: Person, bob: Person, path: str, admin: int, member: int) -> None:
    assert alice.browser().get(f"/hub/{path}").status_code == admin
    assert bob.browser().get(f"/hub/{path}").status_code == member
    anonymous = Client().get(f"/hub/{path}")
    assert anonymous.status_code == 302
    assert anonymous["Location"].startswith("/hub/login/?next=/hub/")


def test_the_gallery_is_there_only_while_developing(alice: Person, settings: Any) -> None:
    for debug, status in ((True, 200), (False, 404)):
        settings.DEBUG = debug
        assert alice.browser().get("/hub/gallery/").status_code == status


# --- Members ----------------------------------------------------------------------------------------------------------


def test_an_admin_adds_somebody_who_chooses_a_password_by_a_link_that_works_once(alice: Person) -> None:
    browser = alice.browser()
    added = browser.post("/hub/members/add/", {"email": "Dana@Acme.test", "name": "Dana", "role": "member"})
    assert added["Cache-Control"] == "no-store"
    link = re.search(r"/hub/set-password/[^\"]+", text_of(added))
    assert link
    token = link[0].split("/")[4]
    assert token not in text_of(browser.get("/hub/members/")) + text_of(browser.get("/hub/activity/"))
    dana = Client()
    form = dana.get(link[0])
    assert token not in form["Location"]
    weak = dana.post(form["Location"], {"new_password1": "short", "new_password2": "short"})
    assert weak.status_code == 400
    new = {"new_password1": "a-long-new-password", "new_password2": "a-long-new-password"}
    assert dana.post(form["Location"], new)["Location"] == "/hub/"
    assert "Dana" in text_of(dana.get("/hub/members/"))
    again = Client().get(link[0])
    assert again.status_code == 410
    assert "no longer works" in text_of(again)


@pytest.mark.parametrize(
    ("entered", "words"),
    [
        ({"email": "nobody", "role": "member"}, "valid email"),
        ({"email": "bob@acme.test", "role": "member"}, "Already a member"),
        ({"email": "x@acme.test", "role": "owner"}, "valid choice"),
    ],
)
def test_a_member_that_cannot_be_added_is_said_beside_the_field(
    alice: Person, bob: Person, entered: dict[str, str], words: str
) -> None:
    response = alice.browser().post("/hub/members/add/", entered)
    assert response.status_code == 400
    assert words in text_of(response)


def test_nobody_gets_a_link_for_a_person_of_another_organization(alice: Person, charlie: Person) -> None:
    response = alice.browser().post("/hub/members/add/", {"email": charlie.user.email, "role": "member"}, follow=True)
    assert "has an account in another organization" in text_of(response)
    assert "set-password" not in text_of(response)
    assert not Membership.objects.filter(organization=alice.organization, user=charlie.user).exists()


def test_a_new_link_is_only_for_those_without_a_password(alice: Person, bob: Person) -> None:
    added = services.add_member("dana@acme.test", Role.MEMBER, actor=alice.actor)
    assert "/hub/set-password/" in text_of(alice.browser().post(f"/hub/members/{added.membership.pk}/link/"))
    assert bob.browser().post(f"/hub/members/{added.membership.pk}/link/").status_code == 403
    bobs = Membership.objects.get(user=bob.user)
    refused = alice.browser().post(f"/hub/members/{bobs.pk}/link/", follow=True)
    assert "can sign in already" in text_of(refused)


def test_roles_change_but_one_admin_stays(alice: Person, bob: Person) -> None:
    bobs, own = Membership.objects.get(user=bob.user), Membership.objects.get(user=alice.user)
    browser = alice.browser()
    refused = browser.post(f"/hub/members/{own.pk}/role/member/", follow=True)
    assert "at least one admin" in text_of(refused)
    assert bob.browser().post(f"/hub/members/{bobs.pk}/role/admin/").status_code == 403
    assert "is an admin now" in text_of(browser.post(f"/hub/members/{bobs.pk}/role/admin/", follow=True))
    assert Membership.objects.get(pk=bobs.pk).role == Role.ADMIN
    assert browser.get(f"/hub/members/{bobs.pk}/role/member/").status_code == 405


def test_removing_asks_first_and_ends_the_keys(alice: Person, bob: Person) -> None:
    key = services.create_api_key(bob.user, name="k", actor=bob.actor)[0]
    url = f"/hub/members/{Membership.objects.get(user=bob.user).pk}/remove/"
    assert "Remove Bob?" in text_of(alice.browser().get(url))
    assert Membership.objects.filter(user=bob.user).exists()
    assert alice.browser().post(url).status_code == 302
    assert not Membership.objects.filter(user=bob.user).exists()
    assert ApiKey.objects.get(pk=key.pk).revoked_at


def test_a_member_may_leave_but_not_remove(alice: Person, bob: Person) -> None:
    own, alices = Membership.objects.get(user=bob.user), Membership.objects.get(user=alice.user)
    assert bob.browser().get(f"/hub/members/{alices.pk}/remove/").status_code == 403
    assert bob.browser().post(f"/hub/members/{alices.pk}/remove/").status_code == 403
    assert bob.browser().post(f"/hub/members/{own.pk}/remove/").status_code == 302
    assert not Membership.objects.filter(user=bob.user).exists()


@pytest.mark.parametrize("path", ["remove/", "role/member/", "link/"])
def test_a_member_of_another_organization_does_not_exist(alice: Person, charlie: Person, path: str) -> None:
    foreign = Membership.objects.get(user=charlie.user)
    assert alice.browser().post(f"/hub/members/{foreign.pk}/{path}").status_code == 404
    assert "Charlie" not in text_of(alice.browser().get("/hub/members/"))
    assert Membership.objects.filter(pk=foreign.pk).exists()


def test_members_are_searched_by_name_and_address(alice: Person, bob: Person) -> None:
    found = text_of(alice.browser().get("/hub/members/?q=BOB@"))
    assert "bob@acme.test" in found
    assert "alice@acme.test</small>" not in found.split("<table")[1]
    assert "Nobody found" in text_of(alice.browser().get("/hub/members/?q=zzz"))


# --- API keys ---------------------------------------------------------------------------------------------------------


def make_key(browser: Client, **changes: Any) -> Any:
    return browser.post("/hub/api-keys/add/", {"name": "CI", "scopes": ["aster:read"], "expires": "90", **changes})


def test_a_key_is_shown_once_and_works(alice: Person) -> None:
    browser = alice.browser()
    response = make_key(browser, owner=alice.user.pk, other_scopes="files:read, files:write")
    shown = re.search(r"ask_[0-9a-f]{12}_[\w-]+", text_of(response))
    assert shown
    assert response["Cache-Control"] == "no-store"
    actor = services.authenticate_key(shown[0])
    assert actor and actor.scopes == {"aster:read", "files:read", "files:write"}
    key = ApiKey.objects.get()
    assert key.expires_at and abs(key.expires_at - timezone.now() - timedelta(days=90)) < timedelta(minutes=1)
    for path in ("api-keys/", "activity/", "accounts/apikey/", f"accounts/apikey/{key.pk}/change/"):
        page = text_of(browser.get(f"/hub/{path}"))
        assert shown[0] not in page
        assert key.digest not in page


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": ""}, "required"),
        ({"scopes": []}, "at least one scope"),
        ({"scopes": ["aster:everything"]}, "valid choice"),
        ({"other_scopes": "aster:root"}, "Unknown scope"),
        ({"expires": "7"}, "valid choice"),
    ],
)
def test_a_key_that_makes_no_sense_is_refused(bob: Person, changes: dict[str, Any], words: str) -> None:
    response = make_key(bob.browser(), **changes)
    assert response.status_code == 400
    assert words in text_of(response)
    assert not ApiKey.objects.exists()


def test_only_an_admin_makes_a_key_for_somebody_else(alice: Person, bob: Person, charlie: Person) -> None:
    make_key(alice.browser(), owner=bob.user.pk)
    assert ApiKey.objects.get().user == bob.user
    assert make_key(alice.browser(), owner=charlie.user.pk).status_code == 400
    make_key(bob.browser(), owner=alice.user.pk, name="mine")
    assert ApiKey.objects.get(name="mine").user == bob.user


def test_the_page_of_keys_says_how_an_mcp_client_reaches_the_admin_server(alice: Person, bob: Person) -> None:
    address = f"{settings.ASTER_PUBLIC_URL}/mcp/acme/admin"
    for person, title in ((alice, "Manage Aster from an MCP client"), (bob, "Look around Aster from an MCP client")):
        page = text_of(person.browser().get("/hub/api-keys/"))
        assert title in page and page.count(address) == 3
        assert "claude mcp add --transport http aster-admin" in page


def test_a_key_is_revoked_by_its_owner_or_an_admin(alice: Person, bob: Person, charlie: Person) -> None:
    key = services.create_api_key(bob.user, name="Laptop", actor=bob.actor)[0]
    url = f"/hub/api-keys/{key.pk}/revoke/"
    assert charlie.browser().post(url).status_code == 404
    assert "Revoke “Laptop”?" in text_of(bob.browser().get(url))
    assert ApiKey.objects.get().revoked_at is None
    bob.browser().post(url)
    assert ApiKey.objects.get().revoked_at
    alices = services.create_api_key(alice.user, name="Hers", actor=alice.actor)[0]
    assert bob.browser().post(f"/hub/api-keys/{alices.pk}/revoke/").status_code == 404
    assert "Hers" not in text_of(bob.browser().get("/hub/api-keys/"))
    page = text_of(alice.browser().get("/hub/api-keys/"))
    assert "Revoked" in page and "Active" in page


def test_an_expired_key_says_so(alice: Person) -> None:
    services.create_api_key(alice.user, name="Old", actor=alice.actor)
    ApiKey.objects.update(expires_at=timezone.now() - timedelta(days=1))
    assert "Expired" in text_of(alice.browser().get("/hub/api-keys/"))


def test_members_and_the_list_of_keys_agree_with_the_door(alice: Person, bob: Person, charlie: Person) -> None:
    Membership.objects.create(organization=charlie.organization, user=bob.user)
    elsewhere = Person(bob.user, charlie.organization, Role.MEMBER)
    services.create_api_key(bob.user, name="Elsewhere", actor=elsewhere.actor)
    keys = {name: services.create_api_key(bob.user, name=name, actor=bob.actor) for name in ("Open", "Old", "Gone")}
    ApiKey.objects.filter(name="Old").update(expires_at=timezone.now() - timedelta(days=1))
    services.revoke_api_key(keys["Gone"][0], actor=bob.actor)
    browser = alice.browser()
    page: Any = browser.get("/hub/members/")
    assert {row.user.email: row.key_count for row in page.context["page"]} == {bob.user.email: 1, alice.user.email: 0}
    for state, name in (("active", "Open"), ("expired", "Old"), ("revoked", "Gone")):
        listed: Any = browser.get(f"/hub/accounts/apikey/?state={state}")
        assert [(key.name, key.state()) for key in listed.context["cl"].result_list] == [(name, state)]
        assert bool(services.authenticate_key(keys[name][1])) == (state == "active")
    assert browser.get("/hub/accounts/apikey/?state=nonsense").status_code == 200


def test_keys_are_revoked_in_bulk_through_the_service(alice: Person, bob: Person) -> None:
    keys = [services.create_api_key(bob.user, name=f"k{n}", actor=bob.actor)[0].pk for n in range(2)]
    chosen = {"action": "revoke", "_selected_action": keys}
    alice.browser().post("/hub/accounts/apikey/", chosen)
    assert not ApiKey.objects.filter(revoked_at=None).exists()
    assert AuditEvent.objects.filter(action="revoked", actor=alice.user).count() == 2


def test_admin_lists_show_nothing_of_other_organizations(alice: Person, charlie: Person) -> None:
    key = services.create_api_key(charlie.user, name="Foreign key", actor=charlie.actor)[0]
    browser = alice.browser()
    event = AuditEvent.objects.get(object_id=str(key.pk), object_type="apikey")
    for path, pk in (("apikey", key.pk), ("user", charlie.user.pk), ("auditevent", event.pk)):
        page = text_of(browser.get(f"/hub/accounts/{path}/"))
        assert "Foreign key" not in page and charlie.user.email not in page
        assert browser.get(f"/hub/accounts/{path}/{pk}/change/").status_code == 302


# --- Activity ---------------------------------------------------------------------------------------------------------


def an_event(person: Person, **values: Any) -> AuditEvent:
    given = {"action": "updated", "object_type": "agent", "object_label": "Helper", "object_id": "1", "via": "page"}
    actor = {"organization": person.organization, "actor": person.user, "actor_label": person.user.email}
    return AuditEvent.objects.create(**{**actor, **given, **values})


def test_changes_read_as_words_with_before_and_after(alice: Person) -> None:
    an_event(alice, changes={"name": ["Old name", "New name"], "scopes": [["a", "b"], ["b", "c"]]})
    page = text_of(alice.browser().get("/hub/activity/"))
    assert "<strong>Alice</strong> changed the agent <strong>Helper</strong>" in page
    assert "Old name" in page and "New name" in page
    event = AuditEvent.objects.get()
    assert [(c.field, c.added, c.removed) for c in describe_changes(event)][1] == ("Scopes", ("c",), ("a",))


def test_page_list_and_file_use_the_same_words_and_dates(alice: Person) -> None:
    moment = datetime(2026, 2, 3, 4, 5, tzinfo=UTC)
    event = an_event(alice, action="switched_tools", object_type="mcpserver", via="gateway", at=moment)
    browser = alice.browser()
    for path in ("activity/", "accounts/auditevent/", f"accounts/auditevent/{event.pk}/change/"):
        page = text_of(browser.get(f"/hub/{path}"))
        assert "MCP client" in page and "03 Feb 2026, 04:05" in page
        assert re.search("switched tools of", page, re.IGNORECASE) and re.search("MCP server", page)
        assert not re.search(">(gateway|switched_tools|mcpserver)<", page)
    assert ",MCP client," in text_of(browser.get("/hub/activity/export/?format=csv"))


def test_members_see_and_export_their_own_part_only(alice: Person, bob: Person, charlie: Person) -> None:
    for person in (alice, bob, charlie):
        an_event(person, object_label=f"by {person.user.name}")
    for path in ("activity/", "activity/export/"):
        own, everything = text_of(bob.browser().get(f"/hub/{path}")), text_of(alice.browser().get(f"/hub/{path}"))
        assert "by Bob" in own and "by Alice" not in own
        assert "by Bob" in everything and "by Alice" in everything and "by Charlie" not in everything


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=help", {"Helper"}),
        ("action=deleted", {"Gone"}),
        ("object_type=mcpserver", {"Gone"}),
        ("via=api", {"Gone"}),
        ("since=2026-02-01", {"Helper"}),
        ("until=2026-01-15", {"Gone"}),
        ("since=2026-01-15&until=2026-01-15", {"Gone"}),
        ("person={bob}", {"Gone"}),
        ("action=nonsense&since=yesterday&person=x&page=99", {"Helper", "Gone"}),
    ],
)
def test_filters_narrow_page_and_export_alike(alice: Person, bob: Person, query: str, found: set[str]) -> None:
    an_event(alice, at=datetime(2026, 2, 1, tzinfo=UTC))
    gone = {"action": "deleted", "object_type": "mcpserver", "object_label": "Gone", "via": "api"}
    an_event(bob, at=datetime(2026, 1, 15, 23, 59, tzinfo=UTC), **gone)
    query = query.format(bob=bob.user.pk)
    page = text_of(alice.browser().get(f"/hub/activity/?{query}"))
    assert {name for name in ("Helper", "Gone") if f"<strong>{name}</strong>" in page} == found
    lines = text_of(alice.browser().get(f"/hub/activity/export/?format=jsonl&{query}")).splitlines()
    assert {json.loads(line)["object"] for line in lines} == found


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t"])
def test_a_cell_of_the_export_is_never_a_formula(alice: Person, start: str) -> None:
    an_event(alice, object_label=f"{start}cmd|' /C calc'!A0")
    rows = list(csv.DictReader(io.StringIO(text_of(alice.browser().get("/hub/activity/export/?format=csv"))[1:])))
    assert rows[0]["object"] == f"'{start}cmd|' /C calc'!A0"


def test_an_export_of_many_rows_is_complete_and_in_order(alice: Person) -> None:
    event = an_event(alice)
    AuditEvent.objects.bulk_create(
        [AuditEvent(organization=event.organization, actor=alice.user, actor_label="a", via="page", action="updated",
                    object_type="agent", object_id=str(n), object_label="x") for n in range(1200)]
    )  # fmt: skip
    lines = text_of(alice.browser().get("/hub/activity/export/?format=jsonl")).splitlines()
    assert [json.loads(line)["object_id"] for line in lines] == [*map(str, reversed(range(1200))), "1"]


def test_an_unknown_export_format_is_refused(alice: Person) -> None:
    assert alice.browser().get("/hub/activity/export/?format=xlsx").status_code == 400


def test_tool_calls_are_the_other_tab(alice: Person, bob: Person) -> None:
    for person in (alice, bob):
        ToolCall.objects.create(
            organization=person.organization, user=person.user, user_label=person.user.email, server_label="HubSpot",
            tool_name=f"tool_of_{person.user.name}", via="api", outcome=CallOutcome.FAILED, error_code="upstream_error",
        )  # fmt: skip
    assert "tool_of_Alice" not in text_of(bob.browser().get("/hub/activity/calls/"))
    page = text_of(alice.browser().get("/hub/activity/calls/?outcome=failed&q=hubspot"))
    assert "tool_of_Alice" in page and "tool_of_Bob" in page and "upstream_error" in page
    assert "Nothing fits" in text_of(alice.browser().get("/hub/activity/calls/?outcome=ok"))
    exported = text_of(bob.browser().get("/hub/activity/calls/export/?format=csv"))
    assert "tool_of_Bob" in exported and "tool_of_Alice" not in exported


def test_page_and_spreadsheet_have_the_words_api_and_json_lines_the_codes(alice: Person) -> None:
    ToolCall.objects.create(
        organization=alice.organization, user=alice.user, user_label=alice.user.email, tool_name="t",
        via="gateway", outcome=CallOutcome.CONNECTION_REQUIRED,
    )  # fmt: skip
    an_event(alice, action="switched_tools", object_type="mcpserver", via="schedule")
    browser, words, codes = alice.browser(), ("MCP client", "Connection required"), ("gateway", "connection_required")

    def exported(path: str) -> tuple[dict[str, str], dict[str, str]]:
        sheet = text_of(browser.get(f"/hub/{path}export/?format=csv"))[1:]
        return next(csv.DictReader(io.StringIO(sheet))), json.loads(
            text_of(browser.get(f"/hub/{path}export/?format=jsonl"))
        )

    sheet, line = exported("activity/calls/")
    (shown,) = alice.api().get("/api/v1/tool_calls").json()["results"]
    assert all(each in text_of(browser.get("/hub/activity/calls/")) for each in words)
    assert (sheet["via"], sheet["outcome"]) == words
    assert (line["via"], line["outcome"]) == (shown["via"], shown["outcome"]) == codes

    AuditEvent.objects.exclude(via="schedule").delete()
    sheet, line = exported("activity/")
    (shown,) = alice.api().get("/api/v1/audit_events?via=schedule").json()["results"]
    assert (sheet["via"], sheet["action"], sheet["object_type"]) == (
        "Scheduled task",
        "switched tools of",
        "MCP server",
    )
    names = ("via", "action", "object_type")
    assert (
        [line[name] for name in names] == [shown[name] for name in names] == ["schedule", "switched_tools", "mcpserver"]
    )


@pytest.mark.parametrize("path", ["members/", "api-keys/", "activity/", "activity/calls/"])
def test_more_rows_cost_no_more_queries(alice: Person, path: str) -> None:
    def add(count: int) -> None:
        for n in range(count):
            user = User.objects.create_user(f"p{User.objects.count()}@acme.test")
            Membership.objects.create(organization=alice.organization, user=user)
            services.create_api_key(user, name=f"k{n}", scopes=["aster:read"], actor=alice.actor)
            ToolCall.objects.create(
                organization=alice.organization, user=user, user_label="x", tool_name="t", via="api", outcome="ok"
            )

    browser = alice.browser()
    add(2)
    few = count_queries(browser, f"/hub/{path}")
    add(20)
    assert count_queries(browser, f"/hub/{path}") == few <= 15


# --- Organization -----------------------------------------------------------------------------------------------------


def test_an_admin_changes_the_settings(alice: Person) -> None:
    hierarchy = {"files:write": ["files:read"]}
    alice.browser().post("/hub/organization/", {"name": "Acme 2", "scope_hierarchy": json.dumps(hierarchy)})
    stored = Organization.objects.get(pk=alice.organization.pk)
    assert (stored.name, stored.scope_hierarchy) == ("Acme 2", hierarchy)


@pytest.mark.parametrize("wrong", ["{", "[]", '{"a": "b"}', '{"a": [1]}'])
def test_a_scope_hierarchy_of_the_wrong_shape_is_refused(alice: Person, wrong: str) -> None:
    response = alice.browser().post("/hub/organization/", {"name": "Acme", "scope_hierarchy": wrong})
    assert response.status_code == 400
    assert Organization.objects.get(pk=alice.organization.pk).scope_hierarchy == {"admin": ["*"]}


def test_switching_is_possible_among_ones_own_organizations(alice: Person, charlie: Person) -> None:
    browser = alice.browser()
    assert browser.post("/hub/switch-organization/", {"organization": "globex"}).status_code == 404
    Membership.objects.create(organization=charlie.organization, user=alice.user)
    switched = browser.post("/hub/switch-organization/", {"organization": "globex", "next": "https://evil.test/"})
    assert switched["Location"] == "/hub/"
    assert "Charlie" in text_of(browser.get("/hub/members/"))
    assert browser.get("/hub/organization/").status_code == 403
    assert browser.get("/hub/switch-organization/").status_code == 405


def test_a_weak_password_is_told_beside_the_password_and_a_typo_beside_its_repetition(bob: Person) -> None:
    browser = bob.browser()
    weak = {"old_password": PASSWORD, "new_password1": "short", "new_password2": "short"}
    assert list(browser.post("/hub/password_change/", weak).context["form"].errors) == ["new_password1"]
    typo = {"old_password": PASSWORD, "new_password1": "another-long-one", "new_password2": "another-lnog-one"}
    assert list(browser.post("/hub/password_change/", typo).context["form"].errors) == ["new_password2"]


def test_the_password_is_changed_in_the_shell(bob: Person) -> None:
    browser = Client()
    browser.login(username=bob.user.email, password=PASSWORD)
    new = {"old_password": PASSWORD, "new_password1": "another-long-one", "new_password2": "another-long-one"}
    assert "Password changed" in text_of(browser.post("/hub/password_change/", new, follow=True))
    assert Client().login(username=bob.user.email, password="another-long-one")
