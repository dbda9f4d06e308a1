"""The base of every change list and form in the Control Hub: rows of one's organization, written by services."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

from django.apps import apps
from django.contrib import admin, messages
from django.contrib.admin.utils import get_fields_from_path
from django.db import transaction
from django.db.models import Field, Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from aster.accounts.access import Actor
from aster.accounts.audit_words import VIAS
from aster.accounts.models import User
from aster.errors import AsterError
from aster.pages import flash_error

M = TypeVar("M", bound=Model)

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin
else:  # Django's class takes no type argument at run time

    class _ModelAdmin(admin.ModelAdmin, Generic[M]):
        pass


def actor_of(request: HttpRequest) -> Actor:
    return cast(Actor, cast(Any, request).actor)


class OwnOrganizationFilter(admin.RelatedFieldListFilter):
    """Offers only what belongs to the organization: Django's own lists every row there is, whoever looks."""

    def field_choices(self, field: Field[Any, Any], request: HttpRequest, model_admin: Any) -> list[Any]:
        path = "memberships__organization" if field.related_model is User else "organization"
        ordering = self.field_admin_ordering(cast(Any, field), request, model_admin)
        scope = {path: actor_of(request).organization}
        return list(field.get_choices(include_blank=False, ordering=ordering, limit_choices_to=scope))


class WordsFilter(admin.AllValuesFieldListFilter):
    """Offers the values that occur, in the words that the hub's own pages have for them."""

    words: ClassVar[Mapping[str, str]] = {}

    def choices(self, changelist: Any) -> Iterator[Any]:
        for choice in super().choices(changelist):
            yield {**choice, "display": self.words.get(str(choice["display"]), choice["display"])}


class ViaFilter(WordsFilter):
    words = VIAS


FILTER_LOOKUPS = ("", "exact", "id__exact", "isnull", "gte", "gt", "lt", "lte", "year", "month", "day")


class OrgScopedAdmin(_ModelAdmin[M]):
    """Members see their organization's rows, admins change them. Subclasses say how rows belong and which verbs write.

    `organization_path` is the lookup from a row to its organization.
    """

    organization_path = "organization"
    admins_only = False
    keeps_history = False
    can_add = can_change = can_delete = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[M]:
        rows = super().get_queryset(request)
        actor = actor_of(request)
        return rows.filter(**{self.organization_path: actor.organization}) if actor else rows.none()

    def get_list_filter(self, request: HttpRequest) -> list[Any]:
        return [self._scope_filter(spec) for spec in super().get_list_filter(request)]

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        """Only what the filters and the date row of the page ask for.

        Django also allows every local field with every lookup, so `?password__startswith=` would answer yes or no, and
        `?name__regex=` runs an expression of the visitor's choosing.
        """
        names = [self.date_hierarchy] if self.date_hierarchy else []
        for spec in super().get_list_filter(request):
            chosen: Any = spec[0] if isinstance(spec, tuple | list) else spec
            names.append(chosen if isinstance(chosen, str) else chosen.parameter_name)
        rest = next((lookup[len(name) :] for name in names if lookup == name or lookup.startswith(f"{name}__")), None)
        return rest is not None and rest.removeprefix("__") in FILTER_LOOKUPS

    def _scope_filter(self, spec: Any) -> Any:
        leads_elsewhere = isinstance(spec, str) and get_fields_from_path(self.model, spec)[-1].is_relation
        return (spec, OwnOrganizationFilter) if leads_elsewhere else spec

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        actor = actor_of(request)
        return bool(actor) and (actor.is_admin or not self.admins_only)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.can_add and self._may_change(request)

    def has_change_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        return self.can_change and self._may_change(request)

    def has_delete_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        return self.can_delete and self._may_change(request)

    def _may_change(self, request: HttpRequest) -> bool:
        actor = actor_of(request)
        return bool(actor) and actor.is_admin

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        return super().render_change_form(request, context | {"keeps_history": self.keeps_history}, *args, **kwargs)

    # --- Writing goes through services; a refusal is shown and nothing is stored ------------------------------------

    def delete_with_service(self, request: HttpRequest, obj: M) -> None:
        raise NotImplementedError(f"{type(self).__name__} allows deleting but names no service for it.")

    def delete_model(self, request: HttpRequest, obj: M) -> None:
        self.delete_with_service(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[M]) -> None:
        # All or nothing: the page names all of them before it asks.
        with transaction.atomic():
            for obj in queryset:
                self.delete_with_service(request, obj)

    def run_each(self, request: HttpRequest, rows: QuerySet[M], verb: Callable[[M], object], done: str) -> None:
        """Apply `verb` to each chosen row; one refusal stops none of the others."""
        succeeded = 0
        for row in rows:
            try:
                verb(row)
                succeeded += 1
            except AsterError as error:
                flash_error(request, error)
        if succeeded:
            one, many = self.opts.verbose_name, self.opts.verbose_name_plural
            messages.success(request, f"{succeeded} {one if succeeded == 1 else many} {done}.")

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        # What goes with an object is for its service to decide, not for the permissions of other lists.
        deleted, counts, _, protected = super().get_deleted_objects(objs, request)
        one = {str(model._meta.verbose_name_plural): model._meta.verbose_name for model in apps.get_models()}
        said = {one.get(str(many), many) if count == 1 else many: count for many, count in counts.items()}
        return deleted, said, set(), protected

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        try:
            return super().changelist_view(request, extra_context)
        except AsterError as error:
            flash_error(request, error)
            return HttpResponseRedirect(request.get_full_path())

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        try:
            return super().delete_view(request, object_id, extra_context)
        except AsterError as error:
            flash_error(request, error)
            return self.response_post_save_change(request, cast(M, self.get_object(request, object_id)))

    def log_addition(self, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """The services write the audit trail; Django's own log would double it."""

    def log_change(self, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """See log_addition."""

    def log_deletions(self, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """See log_addition."""
