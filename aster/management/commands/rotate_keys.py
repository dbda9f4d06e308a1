"""`manage.py rotate_keys`: rewrite stored secrets with the first key of ASTER_ENCRYPTION_KEYS, while Aster runs."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from aster.rotation import encrypted_columns, reencrypt


class Command(BaseCommand):
    help = "Re-encrypt every stored secret with the first key of ASTER_ENCRYPTION_KEYS. Safe to repeat."

    def handle(self, *args: Any, **options: Any) -> None:
        lost = 0
        for model, field in encrypted_columns():
            rewritten, unreadable = reencrypt(model, field)
            lost += unreadable
            if rewritten or unreadable:
                note = f", {unreadable} unreadable" if unreadable else ""
                self.stdout.write(f"{model._meta.label}.{field.name}: {rewritten} rewritten{note}")
        if lost:
            raise CommandError(f"{lost} values open with none of the keys. Keep the old keys until they are replaced.")
        self.stdout.write("Every secret is written with the first key. Older keys can be removed.")
