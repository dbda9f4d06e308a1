"""The audit trail: one row per change, written in the same transaction as the change itself."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db import DatabaseError, IntegrityError, models, transaction

from aster import leases
from aster.accounts.access import Actor
from aster.accounts.models import AuditedModel, AuditEvent
from aster.crypto import EncryptedJSONField, EncryptedTextField
from aster.errors import AsterError, Conflict, InvalidInput

REDACTED = "[REDACTED]"


def snapshot(obj: AuditedModel) -> dict[str, Any]:
    """The audited fields of `obj` as JSON values; a secret is `[REDACTED]` when set."""
    return {name: _shown(obj._meta.get_field(name), getattr(obj, name)) for name in obj.AUDITED}


def _shown(field: Any, value: Any) -> Any:
    if isinstance(field, EncryptedTextField | EncryptedJSONField):
        return REDACTED if value else None
    if isinstance(field, models.ForeignKey):
        return str(value) if value else None
    return value.isoformat() if hasattr(value, "isoformat") else value


def _change(obj: AuditedModel, name: str) -> list[Any]:
    """Before and after of one field. A foreign key is shown by its row's name, a secret only as set."""
    field: Any = obj._meta.get_field(name)
    before = obj.loaded_value(name)
    if isinstance(field, models.ForeignKey) and before is not None:
        before = field.related_model._default_manager.filter(pk=before).first()
    return [_shown(field, before), _shown(field, getattr(obj, name))]


def record(actor: Actor, action: str, obj: models.Model, changes: dict[str, Any] | None = None) -> AuditEvent:
    """Write one row about `obj`. Call it inside the transaction of the change."""
    leases.forget_after_commit()
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


def save_audited(obj: AuditedModel, *, actor: Actor, action: str | None = None) -> None:
    """Validate and store `obj` with its audit row, both or neither. Saving it unchanged leaves no trace.

    Of a stored row only the fields changed here are written. Raises InvalidInput with the messages per field, or
    Conflict when somebody else took a unique value first.
    """
    creating = obj._state.adding
    try:
        obj.full_clean()
        changed = obj.changed_fields()
        with transaction.atomic():
            if creating:
                obj.save()
                changes = {name: [None, value] for name, value in snapshot(obj).items()}
            else:
                stamps = [f.name for f in obj._meta.concrete_fields if getattr(f, "auto_now", False)]
                obj.save(update_fields=[*changed, *stamps] if changed else [])
                changes = {name: _change(obj, name) for name in obj.AUDITED if name in changed}
            if creating or changes:
                record(actor, action or ("created" if creating else "updated"), obj, changes)
    except ValidationError as error:
        raise invalid_input(error) from None
    except IntegrityError:
        raise Conflict("Somebody else saved the same name first. Choose another one.") from None
    except DatabaseError as error:
        if creating or type(obj)._default_manager.filter(pk=obj.pk).exists():
            raise error
        raise Conflict("Somebody else deleted this meanwhile.") from None
    obj.remember()


def delete_audited(obj: AuditedModel, *, actor: Actor) -> None:
    with transaction.atomic():
        record(actor, "deleted", obj, {name: [value, None] for name, value in snapshot(obj).items()})
        obj.delete()


def invalid_input(error: ValidationError) -> AsterError:
    """Django's validation errors as the one error shape of Aster; a unique value that is taken is a Conflict."""
    for refusal in getattr(error, "error_dict", {}).get("__all__", []):
        if refusal.code == "unique_together":
            taken = [name for name in refusal.params["unique_check"] if name != "organization"]
            message = f"This {' and '.join(taken)} is taken. Choose another one."
            return Conflict(message, fields={name: [message] for name in taken})
    fields = error.message_dict if hasattr(error, "error_dict") else {"__all__": error.messages}
    summary = next(iter(fields.values()))[0]
    return InvalidInput(summary, fields={"detail" if k == "__all__" else k: v for k, v in fields.items()})
