"""People of the organization: everybody sees them, admins add, change and remove them."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from aster.accounts import services
from aster.accounts.access import ActorRequest
from aster.accounts.forms import ROLE_WORDS, AddMemberForm
from aster.accounts.models import ApiKey, Membership, Role
from aster.errors import AsterError, Conflict
from aster.pages import add_errors, ask_first, hub_page
from aster.paging import page_of, query_without


def members_of(request: ActorRequest) -> QuerySet[Membership]:
    """The members, with the number of keys that open the door here."""
    theirs = ApiKey.objects.usable().filter(user=OuterRef("user"), organization=OuterRef("organization"))
    counted = theirs.order_by().values("user").annotate(count=Count("pk")).values("count")
    rows = request.actor.organization.memberships.select_related("user")
    return rows.annotate(key_count=Coalesce(Subquery(counted), 0)).order_by("user__email")


@require_GET
@hub_page
def show_members(request: ActorRequest) -> HttpResponse:
    rows, words = members_of(request), request.GET.get("q", "").strip()[:200]
    if words:
        rows = rows.filter(Q(user__name__icontains=words) | Q(user__email__icontains=words))
    page = page_of(request, rows)
    context = {"page": page, "q": words, "query": query_without(request)}
    return render(request, "accounts/members.html", context)


@hub_page
def add_member(request: ActorRequest) -> HttpResponse:
    request.actor.require_admin()
    form = AddMemberForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        try:
            added = services.add_member(given["email"], given["role"], name=given["name"], actor=request.actor)
        except AsterError as error:
            add_errors(form, error)
        else:
            assert added.set_password_path  # noqa: S101  only the command line adds people who can sign in already
            return _show_once(request, added.membership, added.set_password_path)
    status = 400 if form.errors else 200
    return render(request, "accounts/member_add.html", {"form": form, "role_words": ROLE_WORDS}, status=status)


@require_POST
@hub_page
def show_link(request: ActorRequest, pk: int) -> HttpResponse:
    """A fresh link for somebody who has not chosen a password yet."""
    request.actor.require_admin()
    membership = services.find_member(pk, actor=request.actor)
    path = services.set_password_path(membership.user, actor=request.actor)
    if path is None:
        raise Conflict(f"{membership.user} can sign in already.")
    return _show_once(request, membership, path)


def _show_once(request: ActorRequest, membership: Membership, path: str) -> HttpResponse:
    """The link is in this answer only: nothing keeps it."""
    context = {"membership": membership, "link": f"{settings.ASTER_PUBLIC_URL}{path}"}
    response = render(request, "accounts/member_added.html", context)
    response["Cache-Control"] = "no-store"
    return response


@require_POST
@hub_page
def change_role(request: ActorRequest, pk: int, role: str) -> HttpResponse:
    membership = services.find_member(pk, actor=request.actor)
    services.change_role(membership, role, actor=request.actor)
    words = "an admin" if role == Role.ADMIN else "a member"
    messages.success(request, f"{membership.user} is {words} now.")
    return redirect("admin:members")


@hub_page
def remove_member(request: ActorRequest, pk: int) -> HttpResponse:
    membership = services.find_member(pk, actor=request.actor)
    leaving = membership.user == request.user
    if not leaving:
        request.actor.require_admin()
    if request.method == "POST":
        services.remove_member(membership, actor=request.actor)
        if leaving:
            return redirect("/hub/")
        messages.success(request, f"{membership.user} was removed. Their API keys and apps have stopped working.")
        return redirect("admin:members")
    organization = request.actor.organization
    whose, who = ("Your", "you") if leaving else ("Their", "they")
    return ask_first(
        request,
        f"Leave {organization}?" if leaving else f"Remove {membership.user}?",
        f"{'You lose' if leaving else f'{membership.user.email} loses'} access to {organization} at once.",
        parent=(reverse("admin:members"), "Members"),
        items=[
            f"{whose} API keys of this organization stop working, and the apps that {who} let in.",
            f"{whose} connections are revoked at the providers and deleted.",
            f"What {'you' if leaving else 'they'} did stays in the activity.",
        ],
        confirm_text="Leave" if leaving else "Remove",
    )
