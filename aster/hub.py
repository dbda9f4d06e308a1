"""The Control Hub: Django's admin site with our pages, our shell, and entry by membership instead of `is_staff`."""

from __future__ import annotations

from typing import Any, cast

from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import URLPattern, URLResolver, path, reverse
from django.utils.functional import SimpleLazyObject

from aster.accounts.access import Actor, organizations_of
from aster.accounts.models import User
from aster.accounts.sign_in import SignInForm


class ControlHub(AdminSite):
    site_header = site_title = "Aster"
    index_title = "Control Hub"
    login_form = SignInForm
    login_template = "admin/login.html"
    enable_nav_sidebar = False
    final_catch_all_view = False  # aster.urls ends with ours
    empty_value_display = "–"

    def has_permission(self, request: HttpRequest) -> bool:
        """Members of an organization get in; what they may do there is decided per page and per model."""
        user = request.user
        return user.is_active and user.is_authenticated and bool(cast(Any, request).actor)

    def get_urls(self) -> list[URLResolver | URLPattern]:
        from agents.views import urlpatterns as agent_pages
        from aster.accounts.views import urlpatterns as account_pages
        from connectors.views import urlpatterns as connector_pages
        from integrations.views import urlpatterns as integration_pages

        pages = [*account_pages, *integration_pages, *connector_pages, *agent_pages]
        return [path("records/", self.admin_view(self.records), name="records"), *pages, *super().get_urls()]

    def index(  # type: ignore[override]
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return HttpResponseRedirect("/hub/integrations/")

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        wanted = request.POST.get("next") or request.GET.get("next", "")
        return super().login(request, {"finishes_connecting": wanted.startswith(reverse("oauth-callback"))})

    def password_change(  # type: ignore[override]
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponseBase:
        from aster.accounts.views.password import ChangePassword

        return ChangePassword.as_view()(request)

    def records(self, request: HttpRequest) -> HttpResponse:
        """Django admin's own front page: every change list this person may open."""
        return super().index(request, {"title": "All records"})


def shell_context(request: HttpRequest) -> dict[str, Any]:
    """What the shell around every page shows: organization, navigation, person. Looked up when the template asks."""
    actor = getattr(request, "actor", None)
    if not actor:
        return {"shell": {}, "nav": [], "actor": None}
    # Lazy, so that fragments and redirects query nothing; evaluated once, however often the template asks.
    shell, nav = SimpleLazyObject(lambda: _shell(actor)), SimpleLazyObject(lambda: _navigation(actor, request.path))
    return {"shell": shell, "nav": nav, "actor": actor}


def _shell(actor: Actor) -> dict[str, Any]:
    user: User = actor.person
    return {
        "organization": actor.organization,
        "organizations": list(organizations_of(user).order_by("name")[:50]),
        "user": {"name": str(user), "email": user.email},
        "role": "Admin" if actor.is_admin else "Member",
    }


def _navigation(actor: Actor, here: str) -> list[dict[str, Any]]:
    from agents.services.approvals import waiting_for
    from integrations.models import Connection, ConnectionStatus
    from integrations.services.drift import waiting_changes

    mine = Connection.objects.filter(auth_config__organization=actor.organization, user=actor.user)
    broken = mine.filter(status=ConnectionStatus.ERROR).count()
    work = [
        ("Integrations", "/hub/integrations/", "integrations", ("/hub/servers/", "/hub/registry/")),
        ("Agents", "/hub/agents/", "agents", ("/hub/agent/", "/hub/llm-configs/")),
        ("Approvals", "/hub/approvals/", "shield-check", ()),
        ("Schedules", "/hub/schedules/", "clock", ()),
        ("Playground", "/hub/playground/", "play", ()),
        ("My connections", "/hub/connections/", "link", ()),
        ("Connected apps", "/hub/connected-apps/", "monitor", ()),
    ]
    organization = [
        ("Members", "/hub/members/", "members", ()),
        ("API keys", "/hub/api-keys/", "key", ()),
        ("Activity", "/hub/activity/", "activity", ()),
    ]
    counts = {"My connections": broken, "Approvals": waiting_for(actor).count()}
    words = {"Approvals": {"tone": "info", "count_label": "waiting for you"}}
    if actor.is_admin:
        counts["Changed tools"] = waiting_changes(actor).count()
        organization += [
            ("Connectors", "/hub/connectors/", "puzzle", ()),
            ("Changed tools", "/hub/changed-tools/", "warning", ()),
            ("Sign-ins", "/hub/matrix/", "shield", ()),
            ("Settings", "/hub/organization/", "wrench", ()),
        ]

    def item(label: str, url: str, icon: str, also: tuple[str, ...]) -> dict[str, Any]:
        active = here.startswith((url, *also))
        count = {"count": counts.get(label), "tone": "error", **words.get(label, {})}
        return {"label": label, "url": url, "icon": icon, "active": active, **count}

    return [
        {"label": "", "items": [item(*entry) for entry in work]},
        {"label": "Organization", "items": [item(*entry) for entry in organization]},
    ]
