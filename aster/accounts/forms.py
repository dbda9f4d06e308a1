"""What people enter about their organization: members, keys, settings, and filters of the activity lists."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import Any

from django import forms
from django.contrib.auth.forms import PasswordChangeForm, SetPasswordForm
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.html import format_html

from aster.accounts.access import CALL, KEY_SCOPES, READ, Actor
from aster.accounts.audit_words import ACTIONS, OBJECTS, VIAS
from aster.accounts.models import AuditEvent, Role, User
from aster.accounts.retention import installation_rule
from aster.form_fields import JsonObjectField

EXPIRIES = {"30": "30 days", "90": "90 days", "365": "1 year", "never": "Never"}


class _WeaknessBesideThePassword:
    """Django says what is wrong with a password beside its confirmation, as if that had been mistyped."""

    def validate_password_for_user(self, user: User, *args: Any, **kwargs: Any) -> None:
        super().validate_password_for_user(user, "new_password1")  # type: ignore[misc]


class ChoosePasswordForm(_WeaknessBesideThePassword, SetPasswordForm):  # type: ignore[type-arg]
    pass


class ChangePasswordForm(_WeaknessBesideThePassword, PasswordChangeForm):
    pass


class AddMemberForm(forms.Form):
    email = forms.EmailField(label="E-mail address", widget=forms.EmailInput(attrs={"autocomplete": "off"}))
    name = forms.CharField(max_length=150, required=False, help_text="As the others will see it.")
    role = forms.ChoiceField(choices=Role.choices, initial=Role.MEMBER, widget=forms.RadioSelect)


ROLE_WORDS = {
    Role.ADMIN: "Adds and changes servers, agents, people and keys; sees all activity.",
    Role.MEMBER: "Connects own accounts and uses the agents.",
}


class ApiKeyForm(forms.Form):
    name = forms.CharField(max_length=100, help_text="Where it is used, for example “Deploy script”.")
    owner = forms.ChoiceField(help_text="The key acts as this person, with their connections.")
    scopes = forms.MultipleChoiceField(
        choices=[
            (scope, format_html("<span>{} <code>{}</code></span>", words, scope)) for scope, words in KEY_SCOPES.items()
        ],
        widget=forms.CheckboxSelectMultiple,
        required=False,
        initial=[READ, CALL],
        label="What it may do",
    )
    other_scopes = forms.CharField(
        max_length=1000,
        required=False,
        label="Scopes of your own",
        help_text="For tools, separated by spaces: files:read calendar:write. files:* is all that begin with files:",
    )
    expires = forms.ChoiceField(choices=list(EXPIRIES.items()), initial="90", label="Expires after")

    def __init__(self, *args: Any, actor: Actor, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not actor.is_admin:
            del self.fields["owner"]
            return
        members = actor.organization.memberships.select_related("user")
        owners = [(str(each.user_id), f"{each.user} ({each.user.email})") for each in members]
        owner = self.fields["owner"]
        assert isinstance(owner, forms.ChoiceField)  # noqa: S101
        owner.choices = owners
        owner.initial = str(actor.person.pk)

    @property
    def chosen_scopes(self) -> list[str]:
        return [*self.cleaned_data["scopes"], *self.cleaned_data["other_scopes"].replace(",", " ").split()]

    @property
    def expires_at(self) -> datetime | None:
        days = self.cleaned_data["expires"]
        return None if days == "never" else timezone.now() + timedelta(days=int(days))


class OrganizationForm(forms.Form):
    name = forms.CharField(max_length=100)
    scope_hierarchy = JsonObjectField(
        required=False,
        help_text="Which scope includes which: a JSON object that maps a scope to a list of scopes.",
    )

    keep_calls_days = forms.IntegerField(min_value=1, max_value=3650, required=False, label="Days to keep them")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        rule = installation_rule()
        otherwise = f"as long as this installation keeps them, {rule}" if rule.days else "for ever"
        self.fields["keep_calls_days"].help_text = f"From 1 to 3650. Empty: {otherwise}."

    def clean_scope_hierarchy(self) -> dict[str, list[str]]:
        value: dict[str, Any] = self.cleaned_data["scope_hierarchy"]
        for scope, included in value.items():
            if not isinstance(included, list) or not all(isinstance(each, str) for each in included):
                raise ValidationError(f'“{scope[:60]}” must map to a list of scopes, such as ["files:read"].')
        return value


class ActivityFilter(forms.Form):
    """Filters of an activity list. They come from the address, so a value that makes no sense is just left out."""

    q = forms.CharField(max_length=200, required=False, label="Search")
    person = forms.ChoiceField(required=False)
    since = forms.DateField(required=False, label="From", widget=forms.DateInput(attrs={"type": "date"}))
    until = forms.DateField(required=False, label="To", widget=forms.DateInput(attrs={"type": "date"}))

    def __init__(self, *args: Any, actor: Actor, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not actor.is_admin:
            del self.fields["person"]
        else:
            members = actor.organization.memberships.select_related("user").order_by("user__email")[:500]
            people = [(str(each.user_id), str(each.user)) for each in members]
            self._set_choices("person", [("", "Anybody"), *people])
        self.is_valid()

    def _set_choices(self, name: str, choices: list[tuple[str, str]]) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101
        field.choices = choices

    @property
    def wanted(self) -> dict[str, Any]:
        """The filters that are set and make sense."""
        return {name: value for name, value in self.cleaned_data.items() if value not in (None, "")}

    @property
    def chips(self) -> list[tuple[str, str, str]]:
        """(name, label, words) of each filter that is set."""
        found = []
        for name, value in self.wanted.items():
            field = self.fields[name]
            choices: Any = field.choices if isinstance(field, forms.ChoiceField) else ()
            words = dict(choices).get(value, value)
            found.append((name, str(field.label or name.replace("_", " ").capitalize()), str(words)))
        return found

    def between(self, field: str) -> Q:
        """The rows whose `field` lies on the chosen days (UTC, both included)."""
        wanted = self.wanted
        found = Q()
        if since := wanted.get("since"):
            found &= Q(**{f"{field}__gte": datetime.combine(since, time.min, tzinfo=timezone.get_default_timezone())})
        if until := wanted.get("until"):
            # The day's last moment, not the next day's first: the calendar ends with 9999-12-31.
            found &= Q(**{f"{field}__lte": datetime.combine(until, time.max, tzinfo=timezone.get_default_timezone())})
        return found


class ChangesFilter(ActivityFilter):
    action = forms.ChoiceField(required=False, choices=[("", "Any action"), *ACTIONS.items()])
    object_type = forms.ChoiceField(required=False, label="Object", choices=[("", "Anything"), *OBJECTS.items()])
    via = forms.ChoiceField(required=False, choices=[("", "Any way"), *VIAS.items()])
    field_order = ("q", "person", "action", "object_type", "via", "since", "until")

    def apply(self, events: QuerySet[AuditEvent]) -> QuerySet[AuditEvent]:
        wanted = self.wanted
        names = ("action", "object_type", "via")
        same: dict[str, Any] = {name: wanted[name] for name in names if name in wanted}
        if "person" in wanted:
            same["actor_id"] = wanted["person"]
        events = events.filter(self.between("at"), **same)
        if words := wanted.get("q"):
            text = Q(object_label__icontains=words) | Q(actor_label__icontains=words) | Q(request_id=words)
            events = events.filter(text)
        return events
