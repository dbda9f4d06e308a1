"""The API of the organization: settings, members, keys, audit trail; and what every endpoint does with odd requests."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries

from aster.accounts.models import ApiKey, Membership, User
from aster.accounts.services import create_api_key
from tests.aster.api_contract import ContractClient, api
from tests.conftest import Person

pytestmark = pytest.mark.django_db
KEYS, MEMBERS = "/api/v1/api_keys", "/api/v1/members"


@pytest.fixture
def client(alice: Person) -> ContractClient:
    return api(alice)


class TestOrganization:
    def test_it_is_shown_to_members_and_changed_by_admins(self, client: ContractClient, bob: Person) -> None:
        hierarchy = {"admin": ["*"], "files:write": ["files:read"]}
        changed = client.patch("/api/v1/organization", {"name": "Acme 2", "scope_hierarchy": hierarchy})
        assert (changed.status_code, changed.json()["scope_hierarchy"]) == (200, hierarchy)
        shown = api(bob).get("/api/v1/organization").json()
        assert (shown["name"], shown["role"]) == ("Acme 2", "member")

    @pytest.mark.parametrize(
        "body", [{"name": ""}, {"nmae": "x"}, {"scope_hierarchy": []}, {"scope_hierarchy": {"a": "b"}}, {"name": None}]
    )
    def test_a_bad_body_is_refused(self, client: ContractClient, body: dict[str, Any]) -> None:
        response = client.patch("/api/v1/organization", body)
        assert response.status_code == 400 and response.json()["fields"]

    def test_a_limited_key_cannot_declare_itself_unlimited(self, alice: Person) -> None:
        limited = api(alice, "aster:manage")
        response = limited.patch("/api/v1/organization", {"scope_hierarchy": {"aster:manage": ["*"]}})
        assert (response.status_code, response.json()["code"]) == (403, "missing_scope")
        assert limited.patch("/api/v1/organization", {"name": "Fine"}).status_code == 200


class TestMembers:
    def test_one_is_added_promoted_and_removed(self, client: ContractClient) -> None:
        added = client.post(MEMBERS, {"email": "New@Acme.test", "name": "New"})
        assert added.status_code == 201
        assert (added.json()["email"], added.json()["role"]) == ("new@acme.test", "member")
        assert "/hub/set-password/" in added.json()["set_password_url"]
        where = f"{MEMBERS}/{added.json()['id']}"
        assert client.patch(where, {"role": "admin"}).json()["role"] == "admin"
        assert client.delete(where).status_code == 204
        assert client.get(where).status_code == 404

    def test_a_person_of_another_organization_is_for_the_operator_to_add(
        self, client: ContractClient, charlie: Person
    ) -> None:
        refused = client.post(MEMBERS, {"email": charlie.user.email})
        assert (refused.status_code, refused.json()["code"]) == (409, "account_elsewhere")

    def test_a_limited_key_makes_no_admins(self, alice: Person, bob: Person) -> None:
        limited, his = api(alice, "aster:manage"), Membership.objects.get(user=bob.user).pk
        assert limited.post(MEMBERS, {"email": "x@acme.test", "role": "admin"}).json()["code"] == "missing_scope"
        assert limited.patch(f"{MEMBERS}/{his}", {"role": "admin"}).json()["code"] == "missing_scope"
        assert limited.post(MEMBERS, {"email": "x@acme.test"}).status_code == 201

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"email": "nonsense"}, "email"),
            ({"email": f"{'x' * 300}@acme.test"}, "email"),
            ({"email": "x@acme.test", "role": "god"}, "role"),
            ({"email": "x@acme.test", "rôle": "admin"}, "rôle"),
            ({}, "email"),
        ],
    )
    def test_a_bad_body_is_refused(self, client: ContractClient, body: dict[str, Any], field: str) -> None:
        response = client.post(MEMBERS, body)
        assert (response.status_code, list(response.json()["fields"])) == (400, [field])

    def test_twice_is_a_conflict_and_the_last_admin_stays(
        self, client: ContractClient, alice: Person, bob: Person
    ) -> None:
        assert client.post(MEMBERS, {"email": "BOB@acme.test"}).status_code == 409
        own = f"{MEMBERS}/{Membership.objects.get(user=alice.user).pk}"
        assert client.patch(own, {"role": "member"}).status_code == 409
        assert client.delete(own).status_code == 409

    def test_a_member_may_leave_but_remove_nobody(self, alice: Person, bob: Person) -> None:
        member = api(bob)
        hers = f"{MEMBERS}/{Membership.objects.get(user=alice.user).pk}"
        assert member.delete(hers).status_code == member.patch(hers, {"role": "member"}).status_code == 403
        key = api(bob, "*")
        assert key.delete(f"{MEMBERS}/{Membership.objects.get(user=bob.user).pk}").status_code == 204
        assert member.get(MEMBERS).status_code == 401


class TestApiKeys:
    def test_a_key_is_shown_once_and_works_until_it_is_revoked(self, client: ContractClient) -> None:
        made = client.post(KEYS, {"name": "CI", "scopes": ["aster:read"], "expires_at": "2099-01-01T00:00:00Z"})
        assert made.status_code == 201
        text = made.json()["key"]
        fresh = ContractClient()
        fresh.credentials(HTTP_X_API_KEY=text)
        assert fresh.get(MEMBERS).status_code == 200
        where = f"{KEYS}/{made.json()['id']}"
        assert text not in (client.get(where).content + client.get(KEYS).content).decode()
        assert client.delete(where).status_code == client.delete(where).status_code == 204
        assert client.get(where).json()["state"] == "revoked"
        assert fresh.get(MEMBERS).status_code == 401

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({}, "name"),
            ({"name": "x", "scopes": []}, "scopes"),
            ({"name": "x", "scopes": ["aster:everything"]}, "scopes"),
            ({"name": "x", "scopes": "*"}, "scopes"),
            ({"name": "x", "expires_at": "2001-01-01T00:00:00Z"}, "expires_at"),
            ({"name": "x", "expires_at": "tomorrow"}, "expires_at"),
            ({"name": "x", "expires_at": "9999-12-31T23:59:59-23:59"}, "expires_at"),
            ({"name": "x", "user": "charlie@globex.test"}, "user"),
            ({"name": "x", "expires": None}, "expires"),
        ],
    )
    def test_a_bad_body_is_refused(
        self, client: ContractClient, charlie: Person, body: dict[str, Any], field: str
    ) -> None:
        before = ApiKey.objects.count()
        response = client.post(KEYS, body)
        assert (response.status_code, list(response.json()["fields"])) == (400, [field])
        assert ApiKey.objects.count() == before

    def test_a_key_cannot_make_a_more_powerful_one(self, alice: Person) -> None:
        limited = api(alice, "aster:manage")
        assert limited.post(KEYS, {"name": "x", "scopes": ["*"]}).status_code == 400
        assert limited.post(KEYS, {"name": "x", "scopes": ["aster:call"]}).json()["code"] == "missing_scope"
        assert limited.post(KEYS, {"name": "x", "scopes": ["aster:read"]}).status_code == 201

    def test_members_have_their_own_keys(self, alice: Person, bob: Person) -> None:
        member, hers = api(bob), create_api_key(alice.user, name="hers", actor=alice.actor)[0]
        assert member.post(KEYS, {"name": "mine"}).status_code == 201
        for_him = {"name": "x", "user": "bob@acme.test"}
        assert list(api(alice).post(KEYS, {**for_him, "scopes": ["aster:call"]}).json()["fields"]) == ["scopes"]
        assert api(alice).post(KEYS, {**for_him, "scopes": ["aster:read"]}).json()["user"] == "bob@acme.test"
        assert member.post(KEYS, {"name": "x", "user": "alice@acme.test"}).status_code == 403
        assert member.get(f"{KEYS}/{hers.pk}").status_code == member.delete(f"{KEYS}/{hers.pk}").status_code == 404
        assert {row["user"] for row in member.get(KEYS).json()["results"]} == {"bob@acme.test"}


class TestAuditTrail:
    def test_it_tells_who_did_what_and_is_filtered(self, client: ContractClient, bob: Person) -> None:
        client.patch("/api/v1/organization", {"name": "Acme 3"})
        rows = client.get("/api/v1/audit_events?action=updated&object_type=organization").json()["results"]
        assert [(row["actor"], row["via"], row["changes"]) for row in rows] == [
            ("alice@acme.test", "api", {"name": ["Acme", "Acme 3"]})
        ]
        assert client.get("/api/v1/audit_events?via=nowhere").json()["results"] == []
        assert {row["actor"] for row in api(bob).get("/api/v1/audit_events").json()["results"]} == {"bob@acme.test"}

    def test_lists_cost_as_many_queries_however_long(
        self, client: ContractClient, alice: Person, django_assert_max_num_queries: DjangoAssertNumQueries
    ) -> None:
        for number in range(6):
            user = User.objects.create_user(f"p{number}@acme.test", "x")
            Membership.objects.create(user=user, organization=alice.organization)
            create_api_key(user, name="k", scopes=["aster:read"], actor=alice.actor)
        for path in (KEYS, MEMBERS, "/api/v1/audit_events"):
            with django_assert_max_num_queries(3):
                assert len(client.get(path).json()["results"]) >= 6


class TestOddRequests:
    def test_methods_and_media_types_that_are_not_taken(self, client: ContractClient) -> None:
        wrong = client.delete(MEMBERS)
        assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
            response = client.generic("POST", MEMBERS, b"email=x", content_type=kind)
            assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")

    def test_what_is_no_json_is_refused_with_the_place(self, client: ContractClient) -> None:
        response = client.generic("POST", MEMBERS, b'{"email": "canary"', content_type="application/json")
        assert (response.status_code, response.json()["code"]) == (400, "parse_error")
        assert "line 1" in response.json()["detail"] and "canary" not in response.content.decode()

    def test_a_huge_body_is_refused(self, client: ContractClient) -> None:
        for body in (b'"' + b"x" * 1_100_000 + b'"', b"[" * 1_100_000):
            response = client.generic("POST", MEMBERS, body, content_type="application/json")
            assert (response.status_code, response.json()["code"]) == (413, "body_too_large")

    def test_texts_that_cannot_be_stored_are_refused_by_the_name_of_their_field(self, client: ContractClient) -> None:
        for text in ("a\x00b", "\ud800"):
            for path, body, field in (
                (MEMBERS, {"email": "x@acme.test", "name": text}, "name"),
                ("/api/v1/config/agent", {"name": "A", "input_json_schema": {"a": [text]}}, "input_json_schema.a"),
            ):
                sent = json.dumps(body).encode()
                response = client.generic("POST", path, sent, content_type="application/json")
                assert (response.status_code, list(response.json()["fields"])) == (400, [field])

    def test_addresses_that_cannot_be_looked_for_are_refused(self, alice: Person) -> None:
        browser = alice.browser()
        for address in (f"{MEMBERS}?cursor=%00", "/api/v1/audit_events?action=a%00b", "/api/v1/config/agent/%00"):
            refused = browser.get(address)
            assert (refused.status_code, refused.json()["code"], refused.json()["fields"]) == (400, "bad_request", {})
            assert len(refused["X-Request-Id"]) == 16


@pytest.mark.django_db(transaction=True)
def test_a_body_may_come_in_chunks(aster: str, alice: Person) -> None:
    connection = http.client.HTTPConnection(aster.removeprefix("http://"), timeout=10)
    headers = {"X-API-Key": alice.key(), "Content-Type": "application/json"}
    pieces = [b'{"email": ', b'"chunked@acme.test"}']
    connection.request("POST", MEMBERS, body=iter(pieces), headers=headers, encode_chunked=True)
    response = connection.getresponse()
    assert response.status == 201, response.read()
    assert json.loads(response.read())["email"] == "chunked@acme.test"
    connection.request("POST", MEMBERS, body=iter([b" " * 600_000] * 2), headers=headers, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()
