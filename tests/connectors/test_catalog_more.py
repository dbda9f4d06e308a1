"""Google Drive, Linear, Jira, HubSpot and Stripe: their tools against servers that answer as documented."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from connectors.rest import MOST_TEXT
from integrations.mcp_client import AuthChallenge
from tests.connectors.desk import Desk, desk_of
from tests.fakes.rest_catalog import (
    CLOUD_ID,
    KEY,
    LONG_TEXT,
    OTHER_CLOUD_ID,
    drive_api,
    google_error,
    hubspot_api,
    hubspot_error,
    jira_api,
    linear_api,
    linear_error,
    stripe_api,
    stripe_error,
)
from tests.fakes.rest_providers import TOKEN, Said


def asks_for(error: Exception, scope: str) -> bool:
    wants = [f'Bearer error="insufficient_scope", scope="{scope}"']
    return isinstance(error, AuthChallenge) and error.status == 403 and error.www_authenticate == wants


@pytest.fixture
def drive() -> Iterator[Desk]:
    with desk_of("drive", drive_api, "/drive/v3") as desk:
        yield desk


@pytest.fixture
def linear() -> Iterator[Desk]:
    with desk_of("linear", linear_api) as desk:
        yield desk


@pytest.fixture
def jira() -> Iterator[Desk]:
    with desk_of("jira", jira_api) as desk:
        yield desk


@pytest.fixture
def hubspot() -> Iterator[Desk]:
    with desk_of("hubspot", hubspot_api) as desk:
        yield desk


@pytest.fixture
def stripe() -> Iterator[Desk]:
    with desk_of("stripe", stripe_api, "/v1", KEY) as desk:
        yield desk


class TestDrive:
    READ = "https://www.googleapis.com/auth/drive.readonly"

    def test_files_come_page_by_page(self, drive: Desk) -> None:
        first = drive.call("search_files", text="plan", limit=1)
        assert first["files"][0]["name"] == "Plan"
        second = drive.call("search_files", text="plan", cursor=first["next_cursor"])
        assert (second["files"][0]["name"], second["next_cursor"]) == ("notes.txt", None)
        asked = drive.api.asked[0].params
        assert (asked["q"], asked["pageSize"]) == ("fullText contains 'plan' and trashed = false", "1")
        assert asked["includeItemsFromAllDrives"] == asked["supportsAllDrives"] == "true"

    def test_a_folder_is_listed(self, drive: Desk) -> None:
        drive.call("search_files", folder_id="root")
        assert drive.api.asked[-1].params["q"] == "'root' in parents and trashed = false"

    def test_what_is_searched_for_stays_a_text(self, drive: Desk) -> None:
        drive.call("search_files", text="it's \\ or name = 'x'")
        expected = r"fullText contains 'it\'s \\ or name = \'x\'' and trashed = false"
        assert drive.api.asked[-1].params["q"] == expected

    def test_a_google_document_is_exported_as_text(self, drive: Desk) -> None:
        read = drive.call("read_file", file_id="1aB_doc")
        assert (read["name"], read["text"], read["next_offset"]) == ("Plan", "The plan", None)

    def test_a_long_text_comes_in_parts(self, drive: Desk) -> None:
        first = drive.call("read_file", file_id="1aB_txt")
        assert len(first["text"]) == first["next_offset"] == MOST_TEXT
        second = drive.call("read_file", file_id="1aB_txt", offset=first["next_offset"])
        assert first["text"] + second["text"] == LONG_TEXT and second["next_offset"] is None

    def test_what_is_not_made_of_text_is_not_fetched(self, drive: Desk) -> None:
        read = drive.call("read_file", file_id="1aB_jpg")
        assert read["mimeType"] == "image/jpeg" and read["text"] is None
        assert [asked.params.get("alt") for asked in drive.api.asked] == [None]

    def test_a_file_that_is_gone_is_told_of(self, drive: Desk) -> None:
        assert drive.error("read_file", file_id="1aB_gone").message == "Google Drive refused: File not found: 1aB_gone."

    @pytest.mark.parametrize("reason", ["rateLimitExceeded", "userRateLimitExceeded"])
    def test_a_limit_looks_like_any_refusal_but_for_its_reason(self, drive: Desk, reason: str) -> None:
        drive.api.next_answers = [google_error(403, reason, "Rate Limit Exceeded")]
        error = drive.error("search_files", text="plan")
        assert error.code == "rate_limited" and "Try again later" in error.message

    def test_a_missing_scope_is_named(self, drive: Desk) -> None:
        drive.api.next_answers = [google_error(403, "insufficientPermissions", "Insufficient Permission")]
        assert asks_for(drive.error("search_files", text="plan"), self.READ)

    def test_what_the_person_may_not_see_is_no_missing_scope(self, drive: Desk) -> None:
        drive.api.next_answers = [google_error(403, "insufficientFilePermissions", "No access to the file")]
        assert drive.error("search_files", text="plan").message == "Google Drive refused: No access to the file"

    @pytest.mark.parametrize("file_id", ["../about", "a/b", "", "x' in parents or 'y"])
    def test_an_id_that_is_none_asks_for_nothing(self, drive: Desk, file_id: str) -> None:
        with pytest.raises(ValueError, match="id"):
            drive.call("read_file", file_id=file_id)
        with pytest.raises(ValueError, match="id"):
            drive.call("search_files", folder_id=file_id)
        assert not drive.api.asked


class TestLinear:
    def test_teams_come_page_by_page(self, linear: Desk) -> None:
        first = linear.call("list_teams", limit=1)
        assert first["found"] == [{"id": "9cfb482a", "key": "ENG", "name": "Engineering"}]
        assert linear.call("list_teams", cursor=first["next_cursor"])["next_cursor"] is None
        assert linear.api.asked[0].path == "/graphql"
        assert linear.api.asked[0].headers["authorization"] == f"Bearer {TOKEN}"

    def test_what_is_searched_for_is_no_part_of_the_query(self, linear: Desk) -> None:
        text = 'x") { nodes { id } } }'
        assert linear.call("search_issues", text=text)["found"][0]["title"] == text
        asked = linear.api.asked[-1].body
        assert text not in asked["query"] and asked["variables"] == {"term": text, "first": 30, "after": None}

    def test_an_issue_is_created(self, linear: Desk) -> None:
        made = linear.call("create_issue", team_id="9cfb482a", title="It hangs", description="*Always*")
        assert (made["identifier"], made["title"]) == ("ENG-123", "It hangs")
        given = {"teamId": "9cfb482a", "title": "It hangs", "description": "*Always*"}
        assert linear.api.asked[-1].body["variables"]["input"] == given

    def test_a_refusal_is_in_linears_words(self, linear: Desk) -> None:
        error = linear.error("create_issue", team_id="gone", title="x")
        assert error.message == "Linear refused: Entity not found: Team"

    def test_an_error_with_status_200_is_one(self, linear: Desk) -> None:
        linear.api.next_answers = [linear_error("INVALID_INPUT", "Argument Validation Error", 200)]
        assert "Argument Validation Error" in linear.error("list_teams").message

    def test_of_a_limit_it_says_when_it_ends(self, linear: Desk) -> None:
        ends = {"x-ratelimit-requests-remaining": "0", "x-ratelimit-requests-reset": f"{time.time() + 600:.0f}000"}
        linear.api.next_answers = [linear_error("RATELIMITED", "Rate limit exceeded", 400, ends)]
        error = linear.error("list_teams")
        assert error.code == "rate_limited" and re.search(r"Try again in (59\d|600) seconds", error.message)

    def test_a_missing_scope_is_named(self, linear: Desk) -> None:
        linear.api.next_answers = [linear_error("FORBIDDEN", "Invalid scope: `write` required")]
        assert asks_for(linear.error("create_issue", team_id="9cfb482a", title="x"), "issues:create")

    def test_a_token_that_ended_is_replaced_once(self, linear: Desk) -> None:
        linear.tokens, linear.api.tokens = ["old", "new"], {"new"}
        assert linear.call("list_teams")["found"] and linear.rejected == [None, "old"]


class TestJira:
    def test_issues_come_page_by_page(self, jira: Desk) -> None:
        first = jira.call("search_issues", jql="project = ED")
        expected = {"key": "ED-1", "status": "To Do", "assignee": "Mia Krystof", "priority": "Medium"}
        assert expected.items() <= first["issues"][0].items()
        assert jira.call("search_issues", jql="project = ED", cursor=first["next_cursor"])["next_cursor"] is None
        assert jira.api.asked[-1].body["nextPageToken"] == "CAEaAggD"

    def test_an_issue_is_read_with_its_description(self, jira: Desk) -> None:
        issue = jira.call("get_issue", key="ED-1")
        assert (issue["description"], issue["reporter"]) == ("Some *text*", "Emma Richards")

    def test_an_issue_is_created(self, jira: Desk) -> None:
        made = jira.call("create_issue", project="ED", summary="It hangs", description="Always", issue_type="Bug")
        assert made == {"key": "ED-24"}
        fields = jira.api.asked[-1].body["fields"]
        assert fields == {"project": {"key": "ED"}, "summary": "It hangs", "issuetype": {"name": "Bug"},
                          "description": "Always"}  # fmt: skip

    def test_refusals_are_in_jiras_words(self, jira: Desk) -> None:
        assert "Unbounded JQL" in jira.error("search_issues", jql="ORDER BY created").message
        assert "project: valid project is required" in jira.error("create_issue", project="XX", summary="x").message
        assert "Issue does not exist" in jira.error("get_issue", key="ED-9").message

    def test_of_several_sites_one_is_to_be_named(self, jira: Desk) -> None:
        scopes = ["read:jira-work"]
        sites = Said([{"id": CLOUD_ID, "url": "https://acme.atlassian.net", "scopes": scopes},
                      {"id": OTHER_CLOUD_ID, "url": "https://globex.atlassian.net", "scopes": scopes}])  # fmt: skip
        jira.api.next_answers = [sites]
        error = jira.error("get_issue", key="ED-1")
        assert error.message == "Give `site`, which is one of: acme.atlassian.net, globex.atlassian.net."
        assert len(jira.api.asked) == 1
        jira.api.next_answers = [sites]
        assert jira.call("get_issue", key="ED-1", site="acme.atlassian.net")["key"] == "ED-1"

    @pytest.mark.parametrize("site", ["elsewhere.atlassian.net", "wiki.atlassian.net"])
    def test_a_site_that_is_not_theirs_is_refused(self, jira: Desk, site: str) -> None:
        assert "one of: acme.atlassian.net." in jira.error("get_issue", key="ED-1", site=site).message

    def test_a_limit_that_ends_soon_is_waited_for(self, jira: Desk) -> None:
        jira.api.next_answers = [Said({"errorMessages": ["Rate limit exceeded."]}, 429, {"retry-after": "0"})]
        assert jira.call("get_issue", key="ED-1")

    def test_a_missing_scope_is_named_although_jira_says_401(self, jira: Desk) -> None:
        lacks = Said({"code": 401, "message": "Unauthorized; scope does not match"}, 401)
        jira.api.next_answers = [lacks]
        assert asks_for(jira.error("create_issue", project="ED", summary="x"), "write:jira-work")
        assert jira.rejected == [None]

    @pytest.mark.parametrize("key", ["ED-1/../../user", "ED", "../search", ""])
    def test_a_key_that_is_none_asks_for_nothing(self, jira: Desk, key: str) -> None:
        with pytest.raises(ValueError, match="key"):
            jira.call("get_issue", key=key)
        assert not jira.api.asked


class TestHubSpot:
    @pytest.mark.parametrize(("tool", "name"), [("contacts", "email"), ("deals", "dealname")])
    def test_each_kind_comes_page_by_page(self, hubspot: Desk, tool: str, name: str) -> None:
        first = hubspot.call(f"search_{tool}", text="Lumon", limit=1)
        assert first["found"][0]["id"] == "512" and first["found"][0][name] and first["next_cursor"] == "20"
        assert hubspot.call(f"search_{tool}", text="Lumon", cursor="20")["next_cursor"] is None
        asked = hubspot.api.asked[0]
        assert asked.path == f"/crm/v3/objects/{tool}/search" and name in asked.body["properties"]
        assert (asked.body["query"], asked.body["limit"]) == ("Lumon", 1)

    def test_a_contact_is_created(self, hubspot: Desk) -> None:
        made = hubspot.call("create_contact", email="helly@lumon.industries", firstname="Helly")
        assert (made["id"], made["firstname"]) == ("513", "Helly")
        properties = {"email": "helly@lumon.industries", "firstname": "Helly"}
        assert hubspot.api.asked[-1].body == {"properties": properties}

    def test_a_contact_that_exists_is_told_with_its_id(self, hubspot: Desk) -> None:
        assert "Existing ID: 512" in hubspot.error("create_contact", email="mark@lumon.industries").message

    def test_of_a_limit_the_caller_is_told(self, hubspot: Desk) -> None:
        hubspot.api.next_answers = [hubspot_error(429, "RATE_LIMITS", "You have reached your secondly limit.")]
        error = hubspot.error("search_deals", text="x")
        assert error.code == "rate_limited" and len(hubspot.api.asked) == 1

    def test_a_missing_scope_is_named(self, hubspot: Desk) -> None:
        hubspot.api.next_answers = [hubspot_error(403, "MISSING_SCOPES", "This app hasn't been granted all scopes.")]
        assert asks_for(hubspot.error("search_deals", text="x"), "crm.objects.deals.read")

    def test_another_refusal_asks_for_no_scope(self, hubspot: Desk) -> None:
        hubspot.api.next_answers = [hubspot_error(403, "BANNED", "This account is suspended.")]
        assert hubspot.error("search_deals", text="x").message == "HubSpot refused: This account is suspended."


class TestStripe:
    @pytest.mark.parametrize("kind", ["customers", "invoices", "payments"])
    def test_each_kind_comes_page_by_page(self, stripe: Desk, kind: str) -> None:
        first = stripe.call(f"list_{kind}", limit=1)
        second = stripe.call(f"list_{kind}", cursor=first["next_cursor"])
        assert second["next_cursor"] is None and first["next_cursor"] == stripe.api.asked[-1].params["starting_after"]
        asked = stripe.api.asked[0]
        assert asked.headers["authorization"] == f"Bearer {KEY}" and asked.headers["stripe-version"]
        assert (asked.method, asked.params) == ("GET", {"limit": "1"})

    @pytest.mark.parametrize("kind", ["customers", "invoices", "payments"])
    def test_what_opens_a_payment_is_left_out(self, stripe: Desk, kind: str) -> None:
        assert "secret" not in str(stripe.call(f"list_{kind}"))

    def test_invoices_of_one_customer(self, stripe: Desk) -> None:
        found = stripe.call("list_invoices", customer="cus_NffrFeUfNV2Hib", status="open")
        assert found["invoices"][0]["amount_remaining"] == 1500
        asked = {"customer": "cus_NffrFeUfNV2Hib", "status": "open", "limit": "20"}
        assert stripe.api.asked[-1].params == asked

    def test_the_balance(self, stripe: Desk) -> None:
        expected = {"available": [{"currency": "usd", "amount": 666670}], "pending": []}
        assert stripe.call("get_balance") == expected

    def test_a_refusal_is_in_stripes_words(self, stripe: Desk) -> None:
        assert (
            stripe.error("list_invoices", customer="cus_gone").message == "Stripe refused: No such customer: 'cus_gone'"
        )

    def test_a_key_that_may_not_do_it_is_told_of(self, stripe: Desk) -> None:
        words = "The provided key does not have the required permissions for this endpoint."
        stripe.api.next_answers = [stripe_error(403, "invalid_request_error", words)]
        assert stripe.error("get_balance").message == f"Stripe refused: {words}"

    def test_of_a_limit_the_caller_is_told(self, stripe: Desk) -> None:
        stripe.api.next_answers = [stripe_error(429, "invalid_request_error", "Too many requests")]
        assert stripe.error("get_balance").code == "rate_limited"

    def test_a_wrong_key_is_the_organizations_to_replace(self, stripe: Desk) -> None:
        stripe.key = "rk_wrong"
        error = stripe.error("get_balance")
        assert "does not accept the organization's API key" in error.message and "An admin" in error.message
        assert not isinstance(error, AuthChallenge) and "rk_wrong" not in str(vars(error))


@pytest.mark.parametrize("desk", ["drive", "linear", "jira", "hubspot", "stripe"])
@pytest.mark.parametrize("body", [b"<html>", b"[1]", {}, {"data": None}])
def test_a_provider_that_answers_nonsense_is_told_of(desk: str, body: Any, request: pytest.FixtureRequest) -> None:
    at: Desk = request.getfixturevalue(desk)
    at.api.next_answers = [Said(body, status) for status in (200, 403)]
    asks: dict[str, tuple[str, dict[str, Any]]] = {
        "drive": ("search_files", {}),
        "linear": ("list_teams", {}),
        "jira": ("get_issue", {"key": "ED-1"}),
        "hubspot": ("search_deals", {"text": "x"}),
        "stripe": ("get_balance", {}),
    }
    tool, arguments = asks[desk]
    for _ in range(2):
        error = at.error(tool, **arguments)
        assert error.message.startswith(("Google Drive ", "Linear ", "Jira ", "HubSpot ", "Stripe ", "Give `site`"))
