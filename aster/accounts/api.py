"""The REST API of the organization: its members, API keys and audit trail."""

from __future__ import annotations

from typing import Any, ClassVar

from django.conf import settings
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from aster.accounts import api_docs as docs
from aster.accounts import services
from aster.accounts.access import MANAGE, READ
from aster.accounts.api_bodies import ApiKeyIn, MemberIn, OrganizationIn, RoleIn
from aster.accounts.models import ApiKey, AuditEvent, Membership, Organization, User
from aster.api import NewestFirst
from aster.api_views import ActorView, no_content
from aster.errors import InvalidInput


def show_organization(organization: Organization, role: str) -> dict[str, Any]:
    names = ("id", "slug", "name", "scope_hierarchy", "keep_calls_days", "created_at")
    return {**{name: getattr(organization, name) for name in names}, "role": role}


def show_member(membership: Membership) -> dict[str, Any]:
    user = membership.user
    return {"id": membership.pk, "email": user.email, "name": user.name, "role": membership.role,
            "last_login": user.last_login, "created_at": membership.created_at}  # fmt: skip


def show_api_key(key: ApiKey) -> dict[str, Any]:
    names = ("id", "name", "scopes", "expires_at", "revoked_at", "last_used_at", "created_at", "hint")
    return {**{name: getattr(key, name) for name in names}, "user": key.user.email, "state": key.state()}


def show_event(event: AuditEvent) -> dict[str, Any]:
    names = ("id", "at", "via", "action", "object_type", "object_id", "object_label", "changes", "request_id")
    return {"actor": event.actor_label, **{name: getattr(event, name) for name in names}}


class OrganizationView(ActorView):
    @extend_schema(**docs.GET_ORGANIZATION)
    def get(self, request: Request) -> Response:
        return Response(show_organization(self.actor.organization, self.actor.role))

    @extend_schema(**docs.UPDATE_ORGANIZATION)
    def patch(self, request: Request) -> Response:
        organization = self.actor.organization
        for name, value in self.read_change(OrganizationIn, request).items():
            setattr(organization, name, value)
        services.update_organization(organization, actor=self.actor)
        return Response(show_organization(organization, self.actor.role))


class MemberList(ActorView):
    @extend_schema(**docs.LIST_MEMBERS)
    def get(self, request: Request) -> Response:
        return self.page(self.actor.organization.memberships.select_related("user"), show_member)

    @extend_schema(**docs.ADD_MEMBER)
    def post(self, request: Request) -> Response:
        body = self.read_change(MemberIn, request)
        added = services.add_member(body["email"], body["role"], name=body["name"], actor=self.actor)
        link = f"{settings.ASTER_PUBLIC_URL}{added.set_password_path}"
        return Response({**show_member(added.membership), "set_password_url": link}, status=201)


class MemberDetail(ActorView):
    @extend_schema(**docs.GET_MEMBER)
    def get(self, request: Request, pk: int) -> Response:
        return Response(show_member(services.find_member(pk, actor=self.actor)))

    @extend_schema(**docs.UPDATE_MEMBER)
    def patch(self, request: Request, pk: int) -> Response:
        membership = services.find_member(pk, actor=self.actor)
        services.change_role(membership, self.read_change(RoleIn, request)["role"], actor=self.actor)
        return Response(show_member(membership))

    @extend_schema(**docs.REMOVE_MEMBER)
    def delete(self, request: Request, pk: int) -> Response:
        services.remove_member(services.find_member(pk, actor=self.actor), actor=self.actor)
        return no_content()


class ApiKeyList(ActorView):
    # A key may only make keys if it may manage; a person always may make their own.
    scopes: ClassVar = {"GET": READ, "POST": MANAGE}

    @extend_schema(**docs.LIST_API_KEYS)
    def get(self, request: Request) -> Response:
        return self.page(services.visible_api_keys(self.actor), show_api_key)

    @extend_schema(**docs.CREATE_API_KEY)
    def post(self, request: Request) -> Response:
        body = self.read(ApiKeyIn, request)
        key, text = services.create_api_key(
            self._owner(body.get("user")), name=body["name"], scopes=body["scopes"],
            expires_at=body["expires_at"], actor=self.actor,
        )  # fmt: skip
        return Response({**show_api_key(key), "key": text}, status=201)

    def _owner(self, email: str | None) -> User:
        if not email:
            return self.actor.person
        membership = self.actor.organization.memberships.filter(user__email__iexact=email).first()
        if membership is None:
            raise InvalidInput("That person is not a member.", fields={"user": ["Not a member."]})
        return membership.user


class ApiKeyDetail(ActorView):
    @extend_schema(**docs.GET_API_KEY)
    def get(self, request: Request, pk: int) -> Response:
        return Response(show_api_key(services.find_api_key(pk, actor=self.actor)))

    @extend_schema(**docs.REVOKE_API_KEY)
    def delete(self, request: Request, pk: int) -> Response:
        services.revoke_api_key(services.find_api_key(pk, actor=self.actor), actor=self.actor)
        return no_content()


class AuditEventList(ActorView):
    @extend_schema(**docs.LIST_EVENTS)
    def get(self, request: Request) -> Response:
        rows = self.choose(services.visible_events(self.actor), "action", "object_type", "object_id", "via")
        return self.page(rows, show_event, NewestFirst)
