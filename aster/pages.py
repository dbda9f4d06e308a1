"""What every page of the Control Hub shares: who may see it, and how an error becomes something to read."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, cast
from urllib.parse import quote, urlsplit

from django.conf import settings
from django.contrib import messages
from django.forms import BaseForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.http import url_has_allowed_host_and_scheme

from aster.accounts.access import SESSION_ORGANIZATION, ActorRequest, find_actor
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
        _follow_organization(member)
        if not member.actor:
            return show_problem(member, 403, "No organization yet", "Ask an admin to add you to an organization.")
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


def _follow_organization(request: ActorRequest) -> None:
    """A link made for one organization (`?organization=acme`) opens in it, for those who belong there."""
    slug = request.GET.get("organization")
    if slug and request.actor and request.actor.organization.slug != slug:
        chosen = request.user.organizations.filter(slug=slug).first()
        if chosen:
            request.session[SESSION_ORGANIZATION] = chosen.pk
            actor = find_actor(request.user, chosen.pk, via="page", request_id=getattr(request, "request_id", ""))
            request.actor = cast(Any, actor)


def show_problem(request: HttpRequest, status: int, title: str, detail: str) -> HttpResponse:
    return render(request, "error_page.html", {"status": status, "title": title, "detail": detail}, status=status)


def flash_error(request: HttpRequest, error: AsterError) -> None:
    """Say what went wrong, and what to do, at the top of the next page."""
    messages.error(request, " ".join(filter(None, (error.message, getattr(error, "hint", "")))))


def add_errors(form: BaseForm, error: AsterError) -> None:
    """Put a service's refusal beside the fields it is about; whatever has no field goes above the form."""
    placed = False
    for name, words in error.fields.items():
        for word in words:
            form.add_error(name if name in form.fields else None, word)
            placed = True
    if not placed:
        form.add_error(None, error.message)


def back(request: HttpRequest, default: str) -> HttpResponseRedirect:
    """To the page a form was on: `next` in the form, else where the browser came from, if that is ours."""
    wanted = request.POST.get("next") or urlsplit(request.headers.get("referer", "")).path or default
    allowed = url_has_allowed_host_and_scheme(wanted, allowed_hosts={request.get_host()}) and wanted.startswith("/")
    return HttpResponseRedirect(wanted if allowed else default)
