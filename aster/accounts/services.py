"""Verbs on organizations, people and API keys. Pages, API and commands call these and nothing below them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, cast

from django.contrib.auth.password_validation import validate_password
from django.contrib.auth.tokens import default_token_generator
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

from aster import crypto
from aster.accounts import audit
from aster.accounts.access import KEY_SCOPES, MANAGE, READ, TICKETS, Actor
from aster.accounts.models import ApiKey, AuditEvent, Membership, Organization, Role, User, unique_slug
from aster.errors import Conflict, InvalidInput, NotFound

LAST_USED_RESOLUTION = timedelta(minutes=1)


def create_organization(
    name: str, *, admin_email: str, password: str | None = None, admin_name: str = "", via: str = "cli"
) -> tuple[Organization, User]:
    """Create an organization with its first admin, in one transaction.

    An existing person becomes admin as they are: a password is set only for a new one.
    """
    name = name.strip()
    if not name or len(name) > 100:
        raise InvalidInput("Give the organization a name of up to 100 characters.", fields={"name": ["Required."]})
    with transaction.atomic():
        organization = Organization(name=name, slug=unique_slug(name, Organization.objects.all()))
        organization.save()
        user = _get_or_create_person(admin_email, name=admin_name, password=password)
        Membership.objects.create(organization=organization, user=user, role=Role.ADMIN)
        actor = Actor(organization, user, Role.ADMIN, via=via)
        audit.record(actor, "created", organization, {"name": [None, name]})
    return organization, user


def _get_or_create_person(email: str, *, name: str = "", password: str | None = None) -> User:
    email = email.strip().lower()
    try:
        validate_email(email)
    except ValidationError:
        raise InvalidInput("That is not an e-mail address.", fields={"email": ["Enter an e-mail address."]}) from None
    if user := User.objects.filter(email__iexact=email).first():
        return user
    if password is not None:
        try:
            validate_password(password, User(email=email, name=name))
        except ValidationError as error:
            raise InvalidInput(error.messages[0], fields={"password": error.messages}) from None
    try:
        with transaction.atomic():
            return User.objects.create_user(email, password, name=name)
    except IntegrityError:  # somebody else made the account at the same moment
        return User.objects.get(email=email)


def update_organization(organization: Organization, *, actor: Actor) -> None:
    actor.require_admin()
    stored = Organization.objects.get(pk=organization.pk)
    if stored.scope_hierarchy != organization.scope_hierarchy:
        # Otherwise a limited key could declare that its own scope includes every other. The stored row decides: the
        # actor's own organization may be the very object that was just changed.
        Actor(stored, actor.user, actor.role, scopes=actor.scopes).require_scope("*")
    audit.save_audited(organization, actor=actor)


# --- People ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AddedMember:
    membership: Membership
    set_password_path: str | None
    """Where the new person chooses a password (single use, to be passed on).

    None if they can sign in already, which only the command line may bring about.
    """


def add_member(email: str, role: str, *, name: str = "", actor: Actor) -> AddedMember:
    """Make a person a member of the actor's organization.

    An e-mail address proves nothing by itself: whoever made the account first may hold its password. So only the
    operator (the command line) adds people of another organization, and an account that belongs nowhere starts anew,
    with a link to choose a password.
    """
    actor.require_admin()
    _check_role(role, actor)
    with transaction.atomic():
        person = _get_or_create_person(email, name=name.strip())
        # Of two organizations that add the same person at once, the second waits here and then finds the first's.
        user = User.objects.select_for_update().get(pk=person.pk)
        _claim_account(user, actor)
        membership, created = Membership.objects.get_or_create(
            organization=actor.organization, user=user, defaults={"role": role}
        )
        if not created:
            raise Conflict(f"{user.email} is a member already.", fields={"email": ["Already a member."]})
        audit.record(actor, "created", membership, {"user": [None, user.email], "role": [None, role]})
        return AddedMember(membership, set_password_path(user, actor=actor))


def _check_role(role: str, actor: Actor) -> None:
    if role not in Role.values:
        raise InvalidInput("Choose admin or member.", fields={"role": ["Choose admin or member."]})
    if role == Role.ADMIN:
        actor.require_scope("*")  # an admin's session may do everything


def _claim_account(user: User, actor: Actor) -> None:
    """Make sure that nobody of another organization can already sign in as `user`."""
    if actor.via == "cli" or user.memberships.filter(organization=actor.organization).exists():
        return
    if user.is_superuser or user.memberships.exists():
        message = (
            f"{user.email} has an account in another organization. Ask the operator to add them: "
            f"manage.py add_member {user.email} --organization {actor.organization.slug}"
        )
        raise Conflict(message, code="account_elsewhere", fields={"email": [message]})
    user.set_unusable_password()
    user.save(update_fields=["password"])


def set_password_path(user: User, *, actor: Actor) -> str | None:
    """A single-use path to choose a password, for a person who has none and belongs to this organization alone."""
    actor.require_admin()
    elsewhere = user.memberships.exclude(organization=actor.organization).exists()
    if user.has_usable_password() or elsewhere or user.is_superuser:
        return None
    uid = urlsafe_base64_encode(force_bytes(user.pk))
    return f"/hub/set-password/{uid}/{default_token_generator.make_token(user)}/"


def find_member(membership_id: int, *, actor: Actor) -> Membership:
    membership = actor.organization.memberships.select_related("user").filter(pk=membership_id).first()
    if membership is None:
        raise NotFound("There is no such member.")
    return membership


def change_role(membership: Membership, role: str, *, actor: Actor) -> None:
    actor.require_admin()
    _check_role(role, actor)
    with transaction.atomic():
        _keep_an_admin(membership, becoming=role)
        membership.role = role
        audit.save_audited(membership, actor=actor)


def remove_member(membership: Membership, *, actor: Actor) -> None:
    """End a membership; the person's keys in this organization stop working in the same transaction.

    Their connections are disconnected by the background task that looks for connections without a member.
    """
    if actor.user != membership.user:
        actor.require_admin()
    with transaction.atomic():
        _keep_an_admin(membership, becoming=None)
        for key in ApiKey.objects.filter(organization=membership.organization, user=membership.user, revoked_at=None):
            _revoke(key, actor)
        audit.delete_audited(membership, actor=actor)


def _keep_an_admin(membership: Membership, *, becoming: str | None) -> None:
    # Locking the organization row makes two admins who demote each other at once wait for one another.
    Organization.objects.select_for_update().get(pk=membership.organization_id)
    others = Membership.objects.filter(organization=membership.organization_id, role=Role.ADMIN)
    if becoming != Role.ADMIN and not others.exclude(pk=membership.pk).exists():
        raise Conflict("An organization needs at least one admin. Make somebody else an admin first.")


# --- API keys -------------------------------------------------------------------------------------------------------


def create_api_key(
    user: User, *, name: str, scopes: Iterable[str] = ("*",), expires_at: datetime | None = None, actor: Actor
) -> tuple[ApiKey, str]:
    """Create a key that acts as `user` in the actor's organization. Returns the row and its text, shown only now."""
    if user != actor.user:
        actor.require_admin()
    if not Membership.objects.filter(organization=actor.organization, user=user).exists():
        raise InvalidInput("That person is not a member of this organization.", fields={"user": ["Not a member."]})
    chosen = sorted({scope.strip() for scope in scopes if scope.strip()})
    _check_scopes(chosen, actor)
    if user != actor.user and not set(chosen) <= {READ, MANAGE}:
        message = "A key that connects or calls uses its owner's accounts, so only its owner can make it."
        raise InvalidInput(message, fields={"scopes": [message]})
    if expires_at and expires_at <= timezone.now():
        raise InvalidInput("Choose a time in the future.", fields={"expires_at": ["Choose a time in the future."]})
    secret = crypto.SecretKey.make(ApiKey.PREFIX)
    key = ApiKey(
        organization=actor.organization,
        user=user,
        name=name.strip(),
        scopes=chosen,
        expires_at=expires_at,
        lookup=secret.lookup,
        digest=secret.digest,
    )
    audit.save_audited(key, actor=actor)
    return key, secret.text


def _check_scopes(scopes: list[str], actor: Actor) -> None:
    unknown = [scope for scope in scopes if scope.startswith("aster:") and scope not in KEY_SCOPES]
    malformed = [scope for scope in scopes if len(scope) > 100 or not scope.isprintable() or " " in scope]
    if not scopes or unknown or malformed:
        known = ", ".join(KEY_SCOPES)
        problem = f"Unknown scope {', '.join(unknown or malformed)}." if scopes else "Choose at least one scope."
        raise InvalidInput(f"{problem} Aster's own are: {known}.", fields={"scopes": [problem]})
    # A key never gives more than the key (or session) it is made with.
    for scope in scopes:
        if scope == "*" and "*" not in actor.scopes:
            raise InvalidInput("This key cannot make a more powerful one.", fields={"scopes": ["Too powerful."]})
        if scope == TICKETS:
            actor.require_named(scope)
        elif scope != "*":
            actor.require_scope(scope)


def revoke_api_key(key: ApiKey, *, actor: Actor) -> None:
    """Stop a key at once. Revoking twice is the same as once."""
    if key.user != actor.user:
        actor.require_admin()
    with transaction.atomic():
        _revoke(key, actor)


def _revoke(key: ApiKey, actor: Actor) -> None:
    if ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now()):
        audit.record(actor, "revoked", key)


def visible_api_keys(actor: Actor) -> QuerySet[ApiKey]:
    keys = ApiKey.objects.filter(organization=actor.organization).select_related("user")
    return keys if actor.is_admin else keys.filter(user=actor.user)


def visible_events(actor: Actor) -> QuerySet[AuditEvent]:
    """The audit trail: all of it for admins, one's own part for members."""
    events = AuditEvent.objects.filter(organization=actor.organization)
    return events if actor.is_admin else events.filter(actor=actor.user)


def find_api_key(key_id: int, *, actor: Actor) -> ApiKey:
    key = visible_api_keys(actor).filter(pk=key_id).first()
    if key is None:
        raise NotFound("There is no such API key.")
    return key


def authenticate_key(text: str, *, via: str = "api", request_id: str = "") -> Actor | None:
    """The actor an API key stands for, or None. One query, plus one write a minute for `last_used_at`."""
    found = authenticate_keys([text], via=via).get(text)
    return replace(found, request_id=request_id) if found else None


def authenticate_keys(texts: Collection[str], *, via: str) -> dict[str, Actor]:
    """The same for several at once, by their texts; those that are no key now are left out."""
    wanted = {text: lookup for text in texts if (lookup := crypto.SecretKey.lookup_of(text, ApiKey.PREFIX))}
    if not wanted:
        return {}
    found = ApiKey.objects.usable().filter(lookup__in=wanted.values()).annotate(role=F("user__memberships__role"))
    keys = {key.lookup: key for key in found.select_related("user", "organization")}
    actors = {}
    for text, lookup in wanted.items():
        key = keys.get(lookup)
        if key is not None and crypto.matches(text, key.digest):
            _note_use(key)
            scopes, role = frozenset(key.scopes), str(cast(Any, key).role)
            actors[text] = Actor(key.organization, key.user, role, via=via, scopes=scopes, api_key=key)
    return actors


def _note_use(key: ApiKey) -> None:
    now = timezone.now()
    stale = now - LAST_USED_RESOLUTION
    if key.last_used_at is None or key.last_used_at < stale:
        ApiKey.objects.filter(Q(last_used_at=None) | Q(last_used_at__lt=stale), pk=key.pk).update(last_used_at=now)
