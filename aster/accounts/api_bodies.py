"""The shapes of API bodies about the organization."""

from __future__ import annotations

from rest_framework import serializers

from aster.accounts.models import Role
from aster.api_bodies import StrictSerializer


class OrganizationIn(StrictSerializer):
    ignored = frozenset({"id", "slug", "created_at", "role"})

    name = serializers.CharField(max_length=100, required=False)
    scope_hierarchy = serializers.DictField(child=serializers.ListField(child=serializers.CharField()), required=False)
    keep_calls_days = serializers.IntegerField(
        min_value=1, max_value=3650, required=False, allow_null=True,
        help_text="Tool calls are deleted after so many days; null: as the installation says.",
    )  # fmt: skip


class MemberIn(StrictSerializer):
    email = serializers.EmailField(max_length=254)
    name = serializers.CharField(max_length=150, required=False, allow_blank=True, default="")
    role = serializers.ChoiceField(choices=Role.choices, required=False, default=Role.MEMBER)


class RoleIn(StrictSerializer):
    ignored = frozenset({"id", "email", "name", "last_login", "created_at"})

    role = serializers.ChoiceField(choices=Role.choices)


class ApiKeyIn(StrictSerializer):
    name = serializers.CharField(max_length=100)
    scopes = serializers.ListField(child=serializers.CharField(max_length=100), required=False, default=["*"])
    expires_at = serializers.DateTimeField(required=False, allow_null=True, default=None)
    user = serializers.EmailField(
        max_length=254, required=False, help_text="Whose key it is; yours if left out. Admins only."
    )
