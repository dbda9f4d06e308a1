"""Connectors on the hub's pages and over the API."""

from __future__ import annotations

import pytest

from connectors.registry import CONNECTORS
from connectors.services import Settings, enable_connector
from integrations.models import AuthConfig, McpServer
from tests.conftest import Person, body

pytestmark = pytest.mark.django_db
APP = {"client_id": "1234.5678", "client_secret": "s3cret"}
LIST = "/api/v1/connectors"


def notion(alice: Person) -> McpServer:
    return enable_connector("notion", Settings(**APP), actor=alice.actor)


class TestPages:
    def test_the_catalogue_says_what_is_enabled(self, alice: Person) -> None:
        notion(alice)
        page = alice.browser().get("/hub/connectors/").content.decode()
        assert page.count("Not enabled") == len(CONNECTORS) - 1 and "Settings" in page and "Communication" in page

    def test_enabling_shows_the_redirect_uri_and_stores_the_app(self, alice: Person) -> None:
        browser = alice.browser()
        page = browser.get("/hub/connectors/slack/").content.decode()
        assert "/api/mcp/oauth/callback" in page and "User Token Scopes" in page
        form = {**APP, "scopes": ["channels:read"], "url": "https://slack.com/api", "require_auth": "on"}
        assert browser.post("/hub/connectors/slack/", form)["location"] == "/hub/connectors/slack/"
        auth = AuthConfig.objects.get()
        assert (auth.client_id, auth.client_secret, auth.scopes) == ("1234.5678", "s3cret", ["channels:read"])
        assert auth.require_auth and not auth.allow_end_user_auth

    def test_a_secret_is_never_shown_and_stays_when_left_empty(self, alice: Person) -> None:
        notion(alice)
        browser = alice.browser()
        assert "s3cret" not in browser.get("/hub/connectors/notion/").content.decode()
        form = {"client_id": "new", "client_secret": "", "url": "https://api.notion.com/v1", "is_enabled": "on"}
        assert browser.post("/hub/connectors/notion/", form).status_code == 302
        assert AuthConfig.objects.get().client_secret == "s3cret"

    def test_what_is_missing_is_said_beside_the_field(self, alice: Person) -> None:
        answer = alice.browser().post("/hub/connectors/slack/", {"client_id": "", "url": "http://10.0.0.1"})
        assert answer.status_code == 400 and "This field is required" in answer.content.decode()
        assert not McpServer.objects.exists()

    def test_disabling_asks_first_and_says_what_happened(self, alice: Person) -> None:
        notion(alice)
        browser = alice.browser()
        assert (
            "0 connected accounts will be disconnected"
            in browser.get("/hub/connectors/notion/disable/").content.decode()
        )
        answer = browser.post("/hub/connectors/notion/disable/", follow=True)
        assert "Notion is disabled. Nobody was connected." in answer.content.decode()
        assert not McpServer.objects.exists() and not AuthConfig.objects.exists()

    @pytest.mark.parametrize("path", ["", "slack/", "slack/disable/"])
    def test_members_do_not_get_in(self, bob: Person, path: str) -> None:
        assert bob.browser().get(f"/hub/connectors/{path}").status_code in (403, 404)

    def test_what_is_not_in_the_catalogue_is_not_found(self, alice: Person) -> None:
        assert alice.browser().get("/hub/connectors/unknown/").status_code == 404


class TestApi:
    def test_a_script_enables_changes_and_disables(self, alice: Person) -> None:
        api = alice.api()
        made = api.post(f"{LIST}/slack", APP, format="json")
        assert made.status_code == 201 and body(made)["server"] == "slack" and "s3cret" not in made.content.decode()
        changed = body(api.patch(f"{LIST}/slack", {"scopes": ["channels:read"], "is_enabled": False}, format="json"))
        assert (changed["scopes"], changed["is_enabled"], changed["client_id"]) == (
            ["channels:read"],
            False,
            "1234.5678",
        )
        assert body(api.delete(f"{LIST}/slack")) == {"revoked": 0, "not_revoked": []}
        assert body(api.get(f"{LIST}/slack"))["server"] is None

    def test_the_catalogue(self, alice: Person) -> None:
        notion(alice)
        listed = {each["slug"]: each for each in body(alice.api().get(LIST))["results"]}
        assert listed["notion"]["has_secret"] and not listed["slack"]["has_secret"]
        assert listed["slack"]["available_scopes"]["chat:write"] == "Send messages"

    @pytest.mark.parametrize(
        ("sent", "field"),
        [({}, "client_id"), ({"client_id": "x", "api_key": "y"}, "api_key"), ({"nonsense": 1}, "nonsense")],
    )
    def test_bad_input_names_the_field_and_stores_nothing(
        self, alice: Person, sent: dict[str, object], field: str
    ) -> None:
        answer = alice.api().post(f"{LIST}/slack", sent, format="json")
        assert answer.status_code == 400 and field in body(answer)["fields"]
        assert not McpServer.objects.exists() and not AuthConfig.objects.exists()

    def test_an_address_that_is_not_allowed_is_refused(self, alice: Person) -> None:
        answer = alice.api().post(f"{LIST}/github", {**APP, "url": "http://10.0.0.1/api"}, format="json")
        assert answer.status_code == 422 and "url" in body(answer)["fields"]

    def test_twice_is_a_conflict(self, alice: Person) -> None:
        notion(alice)
        assert alice.api().post(f"{LIST}/notion", APP, format="json").status_code == 409

    def test_members_and_others(self, alice: Person, bob: Person, charlie: Person) -> None:
        notion(alice)
        assert bob.api().get(LIST).status_code == bob.api().delete(f"{LIST}/notion").status_code == 403
        assert charlie.api().delete(f"{LIST}/notion").status_code == 404
        assert alice.api("aster:read").delete(f"{LIST}/notion").status_code == 403
