"""The Control Hub's pages about the organization: people, keys, activity, settings."""

from __future__ import annotations

from django.urls import URLPattern, path

from aster.accounts.views import activity, keys, members, organization, password

urlpatterns: list[URLPattern] = [
    path("members/", members.show_members, name="members"),
    path("members/add/", members.add_member, name="member-add"),
    path("members/<int:pk>/role/<str:role>/", members.change_role, name="member-role"),
    path("members/<int:pk>/link/", members.show_link, name="member-link"),
    path("members/<int:pk>/remove/", members.remove_member, name="member-remove"),
    path("set-password/<uidb64>/<token>/", password.SetPassword.as_view(), name="set-password"),
    path("api-keys/", keys.show_keys, name="api-keys"),
    path("api-keys/add/", keys.add_key, name="api-key-add"),
    path("api-keys/<int:pk>/revoke/", keys.revoke_key, name="api-key-revoke"),
    path("activity/", activity.show_changes, name="activity"),
    path("activity/export/", activity.export_changes, name="activity-export"),
    path("organization/", organization.edit_organization, name="organization"),
    path("switch-organization/", organization.switch_organization, name="switch-organization"),
    path("gallery/", organization.gallery, name="gallery"),
]
