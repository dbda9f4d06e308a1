"""The audit trail: one row per change, written in the same transaction as the change itself."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, models, transaction

from aster.accounts.access import Actor
from aster.accounts.models import AuditEvent
from aster.crypto import EncryptedJSONField, EncryptedTextField
from aster.errors import Conflict, InvalidInput

REDACTED = "[REDACTED]"


def snapshot(obj: models.Model) -> dict[str, Any]:
    """The audited fields of `obj` as JSON values; a secret is `[REDACTED]` when set."""
    values: dict[str, Any] = {}
    for name in getattr(obj, "AUDITED", ()):
        field = obj._meta.get_field(name)
        if isinstance(field, EncryptedTextField | EncryptedJSONField):
            values[name] = REDACTED if getattr(obj, name) else None
        elif isinstance(field, models.ForeignKey):
            related = getattr(obj, name)
            values[name] = str(related) if related else None
        else:
            values[name] = getattr(obj, name)
            if hasattr(values[name], "isoformat"):
                values[name] = values[name].isoformat()
    return values


def record(actor: Actor, action: str, obj: models.Model, changes: dict[str, Any] | None = None) -> AuditEvent:
    """Write one row about `obj`. Call it inside the transaction of the change."""
    return AuditEvent.objects.create(
        organization=actor.organization,
        actor=actor.user,
        actor_label=str(actor.user.email if actor.user else "Aster"),
        via=actor.via,
        api_key=actor.api_key,
        action=action,
        object_type=obj._meta.model_name or "",
        object_id=str(obj.pk),
        object_label=str(obj)[:200],
        changes=changes or {},
        request_id=actor.request_id,
    )


def save_audited(obj: models.Model, *, actor: Actor, action: str | None = None) -> None:
    """Validate and store `obj` with its audit row, both or neither. Saving it unchanged leaves no trace.

    Raises InvalidInput with the messages per field, or Conflict when somebody else took a unique value first.
    """
    creating = obj._state.adding
    before: dict[str, Any] = {}
    replaced: list[str] = []
    if not creating:
        stored = type(obj)._default_manager.get(pk=obj.pk)
        before = snapshot(stored)
        replaced = [
            field.name
            for field in obj._meta.concrete_fields
            if isinstance(field, EncryptedTextField | EncryptedJSONField)
            and getattr(stored, field.name) != getattr(obj, field.name)
        ]
    try:
        obj.full_clean()
        with transaction.atomic():
            obj.save()
            after = snapshot(obj)
            changes = {
                name: [before.get(name), value] for name, value in after.items() if creating or before[name] != value
            }
            changes |= {name: [before.get(name), REDACTED] for name in replaced if after.get(name)}
            if creating or changes:
                record(actor, action or ("created" if creating else "updated"), obj, changes)
    except ValidationError as error:
        raise invalid_input(error) from None
    except IntegrityError:
        raise Conflict("Somebody else saved the same name first. Choose another one.") from None


def delete_audited(obj: models.Model, *, actor: Actor) -> None:
    with transaction.atomic():
        record(actor, "deleted", obj, {name: [value, None] for name, value in snapshot(obj).items()})
        obj.delete()


def invalid_input(error: ValidationError) -> InvalidInput:
    """Django's validation errors as the one error shape of Aster."""
    fields = error.message_dict if hasattr(error, "error_dict") else {"__all__": error.messages}
    summary = next(iter(fields.values()))[0]
    return InvalidInput(summary, fields={"detail" if k == "__all__" else k: v for k, v in fields.items()})
