"""People, the organizations they belong to, the keys their scripts use, and the record of what was done."""

from __future__ import annotations

import copy
from datetime import datetime
from typing import Any, ClassVar, Self

from django.contrib.auth.base_user import BaseUserManager
from django.contrib.auth.models import AbstractUser
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.text import slugify

# Words that stand in a slug's place in an address: /hub/servers/add/, /api/v1/config/mcp-server/test, /mcp/acme/admin.
RESERVED_SLUGS = ("add", "admin", "discover", "test", "try")
slug_validator = RegexValidator(
    rf"^(?!(?:[0-9]+|{'|'.join(RESERVED_SLUGS)})$)[a-z0-9]+(?:-[a-z0-9]+)*$",
    f"Use lowercase letters, digits and single hyphens, at least one letter, and none of: {', '.join(RESERVED_SLUGS)}.",
)


def is_row_id(key: str | int) -> bool:
    """Whether a key in an address is meant as a row's id: digits that fit a database integer."""
    text = str(key)
    return text.isascii() and text.isdigit() and len(text) <= 18


def default_scope_hierarchy() -> dict[str, list[str]]:
    return {"admin": ["*"]}


def unique_slug(name: str, taken: models.QuerySet[Any], max_length: int = 50) -> str:
    """A slug made from `name` that no row of `taken` has: `acme`, `acme-2`, …"""
    base = slugify(name)[: max_length - 4].strip("-") or "item"
    if base.isdigit():
        base = f"n-{base}"
    existing = {*taken.filter(slug__startswith=base).values_list("slug", flat=True), *RESERVED_SLUGS}
    if base not in existing:
        return base
    return next(f"{base}-{number}" for number in range(2, len(existing) + 3) if f"{base}-{number}" not in existing)


class AuditedModel(models.Model):
    """A row whose changes are audited. It remembers what was loaded, so that saving writes only what was changed here.

    Two people who edit different fields at once both keep their change, and what a background task learned meanwhile is
    not overwritten by a stale copy.
    """

    AUDITED: ClassVar[tuple[str, ...]] = ()
    _loaded: dict[str, Any]

    class Meta:
        abstract = True

    @classmethod
    def from_db(cls, db: Any, field_names: Any, values: Any, **kwargs: Any) -> Self:
        row = super().from_db(db, field_names, values, **kwargs)
        row.remember()
        return row

    def remember(self) -> None:
        """Take the present values as the stored ones."""
        values, names = self.__dict__, [field.attname for field in self._meta.concrete_fields]
        self._loaded = {name: values[name] for name in names if name in values}
        for name, value in self._loaded.items():
            if isinstance(value, (list, dict)):
                self._loaded[name] = copy.deepcopy(value)

    def refresh_from_db(self, *args: Any, **kwargs: Any) -> None:
        super().refresh_from_db(*args, **kwargs)
        self.remember()

    def changed_fields(self) -> list[str]:
        """The names of the fields that differ from what was loaded; all of them for a row not stored yet."""
        loaded = self._stored_values()
        fields = self._meta.concrete_fields
        return [f.name for f in fields if f.attname not in loaded or loaded[f.attname] != getattr(self, f.attname)]

    def loaded_value(self, name: str) -> Any:
        return self._stored_values().get(self._meta.get_field(name).attname)  # type: ignore[union-attr]

    def _stored_values(self) -> dict[str, Any]:
        if self._state.adding:
            return {}
        if not hasattr(self, "_loaded"):
            # Created in this process and never loaded: ask what is stored now.
            self._loaded = type(self)._default_manager.get(pk=self.pk)._loaded
        return self._loaded


class UserManager(BaseUserManager["User"]):
    use_in_migrations = True

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> User:
        user = self.model(email=self.normalize_email(email).lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> User:
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)

    def get_by_natural_key(self, username: str | None) -> User:
        return self.get(email__iexact=username)


class User(AbstractUser):
    """A person, known by e-mail address. What they may do is decided per organization by Membership."""

    username = None  # type: ignore[assignment]
    first_name = None  # type: ignore[assignment]
    last_name = None  # type: ignore[assignment]
    email = models.EmailField("e-mail address", unique=True)
    name = models.CharField(max_length=150, blank=True)

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []
    objects: ClassVar[UserManager] = UserManager()  # type: ignore[assignment]

    class Meta:
        constraints = [models.UniqueConstraint(Lower("email"), name="user_email_any_case")]

    def __str__(self) -> str:
        return self.name or self.email

    def get_full_name(self) -> str:
        return str(self)

    def get_short_name(self) -> str:
        return str(self)


class Organization(AuditedModel):
    """Everything belongs to one organization; nothing crosses."""

    name = models.CharField(max_length=100)
    slug = models.SlugField(max_length=50, unique=True, validators=[slug_validator])
    scope_hierarchy = models.JSONField(default=default_scope_hierarchy, blank=True)
    # How long its tool calls are kept; None: as long as the installation says
    keep_calls_days = models.PositiveSmallIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(3650)]
    )
    created_at = models.DateTimeField(auto_now_add=True)
    members: models.ManyToManyField[User, Membership] = models.ManyToManyField(
        User, through="Membership", related_name="organizations"
    )

    AUDITED: ClassVar = ("name", "slug", "scope_hierarchy", "keep_calls_days")

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Role(models.TextChoices):
    ADMIN = "admin", "Admin"
    MEMBER = "member", "Member"


class Membership(AuditedModel):
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.MEMBER)
    created_at = models.DateTimeField(auto_now_add=True)

    AUDITED: ClassVar = ("user", "role")

    class Meta:
        ordering = ["user__email"]
        constraints = [models.UniqueConstraint(fields=["organization", "user"], name="one_membership_per_person")]

    def __str__(self) -> str:
        return f"{self.user} in {self.organization}"


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def in_state(self, state: str) -> ApiKeyQuerySet:
        """The keys whose `ApiKey.state()` is this one."""
        now = timezone.now()
        states = {
            "active": models.Q(models.Q(expires_at=None) | models.Q(expires_at__gt=now), revoked_at=None),
            "expired": models.Q(expires_at__lte=now, revoked_at=None),
            "revoked": models.Q(revoked_at__isnull=False),
        }
        return self.filter(states[state])

    def usable(self) -> ApiKeyQuerySet:
        """Keys that open the door now: active ones of an active person who is still a member."""
        active = self.in_state("active")
        return active.filter(user__is_active=True, user__memberships__organization=models.F("organization"))


class ApiKey(AuditedModel):
    """A script's key: acts as its user in one organization, within its scopes. The text is shown once."""

    PREFIX = "ask"

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="api_keys")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=100)
    lookup = models.CharField(max_length=12, unique=True, editable=False)
    digest = models.CharField(max_length=64, editable=False)
    scopes = models.JSONField(default=list, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    AUDITED: ClassVar = ("name", "user", "scopes", "expires_at", "revoked_at")
    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-id"]
        verbose_name = "API key"

    def __str__(self) -> str:
        return self.name

    @property
    def hint(self) -> str:
        """What may be shown of the key: enough to find it in a script's configuration."""
        return f"{self.PREFIX}_{self.lookup[:4]}…"

    def state(self, now: datetime | None = None) -> str:
        if self.revoked_at:
            return "revoked"
        if self.expires_at and self.expires_at <= (now or timezone.now()):
            return "expired"
        return "active"


class AuditEvent(models.Model):
    """Who did what to which object, with before and after. Secrets appear as set or replaced, never as values."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="audit_events")
    at = models.DateTimeField(default=timezone.now, editable=False)
    actor = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    actor_label = models.CharField(max_length=254)
    via = models.CharField(max_length=20)
    api_key = models.ForeignKey(ApiKey, on_delete=models.SET_NULL, null=True, related_name="+")
    action = models.CharField(max_length=50)
    object_type = models.CharField(max_length=50)
    object_id = models.CharField(max_length=50)
    object_label = models.CharField(max_length=200)
    changes = models.JSONField(default=dict)
    request_id = models.CharField(max_length=64, blank=True)

    class Meta:
        ordering = ["-at", "-id"]
        indexes = [
            models.Index(fields=["organization", "-at"], name="audit_by_time"),
            models.Index(fields=["organization", "object_type", "object_id"], name="audit_by_object"),
        ]

    def __str__(self) -> str:
        return f"{self.actor_label} {self.action} {self.object_label}"
