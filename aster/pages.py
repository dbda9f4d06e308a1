"""What every page of the Control Hub shares: who may see it, and how an error becomes something to read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Concatenate, ParamSpec, cast
from urllib.parse import quote, urlsplit

from django.conf import settings
from django.contrib import messages
from django.forms import BaseForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme

from aster.accounts.access import ActorRequest, organizations_of
from aster.accounts.models import Organization
from aster.errors import AsterError, NotAllowed, NotFound

P = ParamSpec("P")
PageView = Callable[Concatenate[ActorRequest, P], HttpResponseBase]


def hub_page(view: PageView[P]) -> Callable[Concatenate[HttpRequest, P], HttpResponseBase]:
    """A page for signed-in members. Errors of services become the 404 or 403 page, or a message where one came from."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return HttpResponseRedirect(f"{settings.LOGIN_URL}?next={quote(request.get_full_path())}")
        member = cast(ActorRequest, request)
        if not member.actor:
            return show_problem(member, 403, "No organization yet", "Ask an admin to add you to an organization.")
        if elsewhere := _other_organization(member):
            return _offer_to_switch(member, elsewhere)
        try:
            return view(member, *args, **kwargs)
        except NotFound as error:
            return show_problem(member, 404, "Not found", error.message)
        except NotAllowed as error:
            return show_problem(member, 403, "Not allowed", error.message)
        except AsterError as error:
            if request.method != "POST":
                return show_problem(member, error.http_status, "That did not work", error.message)
            flash_error(member, error)
            return back(member, "/hub/")

    return cast(Callable[Concatenate[HttpRequest, P], HttpResponseBase], guarded)


def _other_organization(request: ActorRequest) -> Organization | None:
    """The organization a link was made for (`?organization=acme`), if the person belongs there but is elsewhere now."""
    slug = request.GET.get("organization")
    if not slug or request.method not in ("GET", "HEAD") or slug == request.actor.organization.slug:
        return None
    return organizations_of(request.user).filter(slug=slug).first()


def _offer_to_switch(request: ActorRequest, wanted: Organization) -> HttpResponse:
    """Ask first: a link from anywhere must not decide in which organization somebody goes on working."""
    context = {
        "title": f"Switch to {wanted}?",
        "text": f"This link belongs to {wanted}. You are working in {request.actor.organization} now.",
        "action": reverse("admin:switch-organization"),
        "organization": wanted.slug,
        "next": request.get_full_path(),
        "confirm_text": f"Switch to {wanted}",
        "tone": "primary",
        "cancel_url": "/hub/",
    }
    return render(request, "accounts/switch.html", context)


def show_problem(request: HttpRequest, status: int, title: str, detail: str) -> HttpResponse:
    return render(request, "error_page.html", {"status": status, "title": title, "detail": detail}, status=status)


def ask_first(
    request: HttpRequest,
    title: str,
    text: str,
    *,
    parent: tuple[str, str],
    items: Sequence[str] = (),
    confirm_text: str = "Delete",
) -> HttpResponse:
    """The page that asks before something is lost. `parent` is the address and name of the page to go back to."""
    url, label = parent
    context = {"title": title, "text": text, "items": items, "confirm_text": confirm_text, "cancel_url": url}
    return render(request, "confirm.html", {**context, "parent_url": url, "parent_label": label})


def flash_error(request: HttpRequest, error: AsterError) -> None:
    """Say what went wrong, and what to do, at the top of the next page."""
    messages.error(request, " ".join(filter(None, (error.message, getattr(error, "hint", "")))))


def add_errors(form: BaseForm, error: AsterError) -> None:
    """Put a service's refusal beside the fields it is about; whatever has no field goes above the form."""
    placed = False
    for name, words in error.fields.items():
        field, _, inside = name.partition(".")
        for word in words:
            if name in form.fields or field not in form.fields:
                form.add_error(name if name in form.fields else None, word)
            else:  # a part of what one field holds
                form.add_error(field, f"{inside}: {word}")
            placed = True
    if not placed:
        form.add_error(None, error.message)


def back(request: HttpRequest, default: str) -> HttpResponseRedirect:
    """To the page a form was on: `next` in the form, else where the browser came from, if that is ours."""
    wanted = request.POST.get("next") or urlsplit(request.headers.get("referer", "")).path
    return HttpResponseRedirect(local_path(wanted, default))


def local_path(wanted: str, default: str = "") -> str:
    """`wanted` if it is a path of this site, else `default`: nobody may be sent on to somebody else's page."""
    is_ours = wanted.startswith("/") and url_has_allowed_host_and_scheme(wanted, allowed_hosts=None)
    return wanted if is_ours and len(wanted) <= 500 else default


def is_htmx(request: HttpRequest) -> bool:
    """Whether htmx asks, and wants a part of the page instead of all of it."""
    return bool(getattr(request, "htmx", False))
