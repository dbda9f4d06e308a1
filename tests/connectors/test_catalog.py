"""Slack, Notion and GitHub: their tools against servers that answer as the providers document it."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.registry import CONNECTORS
from connectors.rest import PATIENT_SECONDS
from integrations.mcp_client import AuthChallenge
from tests.connectors.desk import Desk, desk_of
from tests.fakes.rest_providers import PAGE_ID, TOKEN, Said, github_api, notion_api, slack_api


@pytest.fixture
def slack() -> Iterator[Desk]:
    with desk_of("slack", slack_api) as desk:
        yield desk


@pytest.fixture
def notion() -> Iterator[Desk]:
    with desk_of("notion", notion_api, "/v1") as desk:
        yield desk


@pytest.fixture
def github() -> Iterator[Desk]:
    with desk_of("github", github_api) as desk:
        yield desk


def test_the_tools_are_those_that_were_promised() -> None:
    promised = [each for each in CONNECTORS if each.slug in ("slack", "notion", "github")]
    assert [name for connector in promised for name in connector.tools] == [
        *("slack_list_channels", "slack_send_message", "slack_search_messages"),
        *("notion_search", "notion_get_page", "notion_create_page"),
        *("github_list_repos", "github_search_issues"),
    ]


@pytest.mark.parametrize("connector", CONNECTORS, ids=lambda each: each.slug)
def test_a_connector_is_one_short_file(connector: Any) -> None:
    lines = Path(importlib.import_module(f"connectors.catalog.{connector.slug}").__file__ or "").read_text()
    assert len(lines.splitlines()) <= 60 and len(connector.tools) >= 2


@pytest.mark.parametrize("connector", CONNECTORS, ids=lambda each: each.slug)
def test_every_tool_says_what_it_takes_and_whether_it_changes_anything(connector: Any) -> None:
    for tool in connector.tools.values():
        definition = tool.definition
        assert definition.description and definition.output_schema and definition.annotations
        assert tool.name.startswith(f"{connector.slug}_")
        assert set(tool.scopes) <= set(connector.scopes)


class TestSlack:
    def test_channels_come_page_by_page(self, slack: Desk) -> None:
        first = slack.call("list_channels", limit=1)
        assert first["channels"] == [{"id": "C012AB3CD", "name": "general", "topic": "Company-wide"}]
        second = slack.call("list_channels", cursor=first["next_cursor"])
        assert (second["channels"][0]["name"], second["next_cursor"]) == ("random", None)
        assert slack.api.asked[0].headers["authorization"] == f"Bearer {TOKEN}"

    def test_a_message_goes_into_a_thread(self, slack: Desk) -> None:
        sent = slack.call("send_message", channel="C012AB3CD", text="Hello", thread_ts="1503435956.000247")
        assert sent == {"channel": "C012AB3CD", "ts": "1503435956.000247"}
        assert slack.api.asked[-1].body == {"channel": "C012AB3CD", "text": "Hello", "thread_ts": "1503435956.000247"}

    def test_search(self, slack: Desk) -> None:
        found = slack.call("search_messages", query="life from:@roach")
        assert (found["total"], found["next_page"]) == (2, 2) and found["messages"][0]["channel"] == "general"
        assert slack.api.asked[-1].params["query"] == "life from:@roach"
        assert slack.call("search_messages", query="life from:@roach", page=2)["next_page"] is None

    def test_a_deleted_channel_is_told_of(self, slack: Desk) -> None:
        assert "channel_not_found" in slack.error("send_message", channel="C0GONE", text="Hello").message

    def test_a_token_without_the_scope_says_which_one_is_needed(self, slack: Desk) -> None:
        slack.api.next_answers = [
            Said({"ok": False, "error": "missing_scope", "needed": "search:read", "provided": ""})
        ]
        error = slack.error("search_messages", query="x")
        assert isinstance(error, AuthChallenge) and error.status == 403
        assert error.www_authenticate == ['Bearer error="insufficient_scope", scope="search:read"']

    @pytest.mark.parametrize("error", ["token_revoked", "token_expired", "account_inactive"])
    def test_a_token_that_ended_is_replaced_once(self, slack: Desk, error: str) -> None:
        slack.tokens, slack.api.tokens = ["old", "new"], {"new"}
        assert slack.call("list_channels")["channels"]
        assert slack.rejected == [None, "old"]


class TestNotion:
    def test_search_gives_titles_and_the_next_page(self, notion: Desk) -> None:
        found = notion.call("search", query="kale")
        assert found["results"][0]["title"] == "Tuscan kale" and found["next_cursor"] == "fe2cc560"
        asked = notion.api.asked[-1]
        assert asked.headers["notion-version"] == "2022-06-28" and asked.body == {"query": "kale", "page_size": 20}

    def test_a_page_is_read_as_text(self, notion: Desk) -> None:
        page = notion.call("get_page", page_id=PAGE_ID)
        assert (page["title"], page["text"], page["next_cursor"]) == ("Tuscan kale", "Lacinato kale\n", None)

    def test_a_page_is_made_of_lines(self, notion: Desk) -> None:
        assert notion.call("create_page", parent_page_id=PAGE_ID, title="Soup", text="One\nTwo")["id"] != PAGE_ID
        body = notion.api.asked[-1].body
        assert body["properties"]["title"]["title"][0]["text"]["content"] == "Soup"
        assert [block["paragraph"]["rich_text"][0]["text"]["content"] for block in body["children"]] == ["One", "Two"]

    def test_nothing_of_a_long_text_is_lost(self, notion: Desk) -> None:
        notion.call("create_page", parent_page_id=PAGE_ID, title="Long", text="\n".join(["x" * 2500] * 120))
        rows = [block["paragraph"]["rich_text"] for block in notion.api.asked[-1].body["children"]]
        assert len(rows) == 100 and len(rows[0]) == 2
        pieces = [piece["text"]["content"] for row in rows for piece in row]
        assert sum(map(len, pieces)) == 120 * 2500 + 20 and max(map(len, pieces)) == 2000

    def test_a_page_that_is_not_shared_is_told_of(self, notion: Desk) -> None:
        assert "Make sure it is shared" in notion.error("get_page", page_id=PAGE_ID.replace("b", "a")).message

    @pytest.mark.parametrize("page_id", ["../users", "b55c9c91/../../users", ""])
    def test_an_id_that_is_none_asks_for_nothing(self, notion: Desk, page_id: str) -> None:
        with pytest.raises(ValueError, match="page_id"):
            notion.call("get_page", page_id=page_id)
        assert not notion.api.asked


class TestGitHub:
    def test_repositories_come_page_by_page(self, github: Desk) -> None:
        first = github.call("list_repos", limit=2)
        assert len(first["repositories"]) == 2 and first["next_page"] == 2
        assert github.call("list_repos", limit=2, page=2)["next_page"] is None
        headers = github.api.asked[0].headers
        assert headers["x-github-api-version"] == "2022-11-28" and headers["accept"] == "application/vnd.github+json"

    def test_issues_are_searched(self, github: Desk) -> None:
        found = github.call("search_issues", query="is:open index")
        assert found["issues"][0]["repository"] == "batterseapower/pinyin-toolkit" and found["total"] == 280
        assert found["next_page"] == 2

    def test_a_limit_that_ends_soon_is_waited_for(self, github: Desk) -> None:
        github.api.next_answers = [Said({"message": "API rate limit exceeded"}, 403, {"retry-after": "0"})]
        assert github.call("list_repos", limit=1)["repositories"]
        assert len(github.api.asked) == 2

    def test_of_a_longer_limit_the_caller_is_told(self, github: Desk) -> None:
        ends = str(int(time.time()) + 600)
        spent = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": ends}
        github.api.next_answers = [Said({"message": "API rate limit exceeded"}, 403, spent)]
        error = github.error("list_repos")
        assert error.code == "rate_limited" and PATIENT_SECONDS < 500 and "seconds" in error.message
        assert len(github.api.asked) == 1

    def test_a_scope_that_is_wanted_is_named(self, github: Desk) -> None:
        wants = {"x-oauth-scopes": "gist", "x-accepted-oauth-scopes": "repo"}
        github.api.next_answers = [Said({"message": "Not Found"}, 404, wants)]
        error = github.error("list_repos")
        assert isinstance(error, AuthChallenge) and 'scope="repo"' in error.www_authenticate[0]

    def test_the_token_of_a_github_app_has_no_scopes_to_ask_for(self, github: Desk) -> None:
        github.api.next_answers = [Said({"message": "Not Found"}, 404, {"x-accepted-oauth-scopes": "repo"})]
        assert github.error("list_repos").message == "GitHub refused: Not Found"


class TestAnyProvider:
    def test_that_is_down_is_told_of_and_not_asked_again(self, slack: Desk) -> None:
        slack.api.next_answers = [Said({"ok": False}, 503)]
        error = slack.error("send_message", channel="C012AB3CD", text="Once")
        assert "Slack has a problem" in error.message and len(slack.api.asked) == 1

    def test_that_is_not_there(self, slack: Desk) -> None:
        slack.url = "http://127.0.0.1:1"
        assert "Nobody answers" in slack.error("list_channels").message

    @pytest.mark.parametrize(
        "body", [b"<html>", b"[1]", {"ok": True}, {"ok": True, "channels": [{}]}, {"ok": True, "channels": None}]
    )
    def test_that_answers_nonsense_is_told_of(self, slack: Desk, body: Any) -> None:
        slack.api.next_answers = [Said(body)]
        assert slack.error("list_channels").message.startswith("Slack ")

    def test_that_refuses_every_token_wants_a_sign_in(self, github: Desk) -> None:
        github.api.tokens = set()
        github.tokens = ["old", "new"]
        error = github.error("list_repos")
        assert isinstance(error, AuthChallenge) and error.status == 401 and len(github.api.asked) == 2

    @pytest.mark.parametrize("arguments", [{}, {"query": "x", "limit": 0}, {"query": "x", "limit": 1000}, {"query": 5}])
    def test_arguments_that_do_not_fit_are_named_to_the_model(self, slack: Desk, arguments: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="do not fit"):
            slack.call("search_messages", **arguments)
        assert not slack.api.asked


@pytest.mark.parametrize("said", ["²", "9" * 400, "-1", "soon"])
def test_a_limit_that_says_nonsense_is_a_limit_all_the_same(github: Desk, said: str) -> None:
    github.api.next_answers = [Said({"message": "Slow down"}, 429, {"retry-after": said})] * 3
    error = github.error("list_repos")
    assert (error.code, "Try again later" in error.message) == ("rate_limited", True)


class TestPagesThatChangeWhileOneReads:
    """Between two pages things are made and deleted: what is left is told, and a page that is gone is said to be."""

    def test_a_cursor_that_the_provider_no_longer_knows_is_refused_in_its_words(
        self, slack: Desk, notion: Desk
    ) -> None:
        slack.api.next_answers = [Said({"ok": False, "error": "invalid_cursor"})]
        assert "invalid_cursor" in slack.error("list_channels", cursor="of yesterday").message
        words = "The start_cursor provided is invalid: fe2cc560"
        notion.api.next_answers = [Said({"object": "error", "code": "validation_error", "message": words}, 400)]
        assert words in notion.error("search", query="kale", cursor="fe2cc560").message

    def test_a_page_behind_the_end_is_empty_and_the_last(self, slack: Desk, github: Desk) -> None:
        slack.api.next_answers = [Said({"ok": True, "channels": [], "response_metadata": {"next_cursor": ""}})]
        assert slack.call("list_channels", cursor="dGVhbTpDMDYxRkE1UEI=") == {"channels": [], "next_cursor": None}
        github.api.next_answers = [Said([]), Said({"total_count": 40, "incomplete_results": False, "items": []})]
        assert github.call("list_repos", limit=2, page=9) == {"repositories": [], "next_page": None}
        found = github.call("search_issues", query="is:open", page=2)
        assert (found["issues"], found["next_page"]) == ([], None)
