"""The shapes of the answers about the organization, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from aster.accounts.audit_words import VIAS
from aster.accounts.models import Role

KEY_STATE = ["active", "expired", "revoked"]


class OrganizationOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    slug = serializers.CharField()
    name = serializers.CharField()
    scope_hierarchy = serializers.DictField(child=serializers.ListField(child=serializers.CharField()))
    keep_calls_days = serializers.IntegerField(
        allow_null=True, help_text="For how many days tool calls are kept; null: as the installation says"
    )
    created_at = serializers.DateTimeField()
    role = serializers.ChoiceField(choices=Role.choices, help_text="The caller's own")


class MemberOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    email = serializers.EmailField()
    name = serializers.CharField(allow_blank=True)
    role = serializers.ChoiceField(choices=Role.choices)
    last_login = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()


class AddedMemberOut(MemberOut):
    set_password_url = serializers.URLField(help_text="Where they choose a password, to be passed on: works once")


class ApiKeyOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    scopes = serializers.ListField(child=serializers.CharField())
    expires_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()
    hint = serializers.CharField(help_text="How the key begins")
    user = serializers.EmailField(help_text="Whom the key acts as")
    state = serializers.ChoiceField(choices=KEY_STATE)


class CreatedApiKeyOut(ApiKeyOut):
    key = serializers.CharField(help_text="The key itself. It is shown this once")


class AuditEventOut(serializers.Serializer[Any]):
    actor = serializers.CharField()
    id = serializers.IntegerField()
    at = serializers.DateTimeField()
    via = serializers.CharField(help_text=", ".join(VIAS))
    action = serializers.CharField()
    object_type = serializers.CharField()
    object_id = serializers.CharField()
    object_label = serializers.CharField()
    changes = serializers.DictField(help_text="Field → [before, after]; secrets are `[REDACTED]`")
    request_id = serializers.CharField(allow_blank=True)
