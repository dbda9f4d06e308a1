"""The pages of servers and connections in the Control Hub."""

from __future__ import annotations

from django.urls import URLPattern, path

from integrations.views import (
    actions,
    callback,
    client_metadata,
    connect,
    connection,
    connections,
    doctor,
    overview,
    registry,
    server,
    server_form,
)

oauth_callback = callback.oauth_callback
client_metadata_document = client_metadata.client_metadata_document

urlpatterns: list[URLPattern] = [
    path("integrations/", overview.integrations, name="integrations"),
    path("registry/", registry.search, name="registry"),
    path("registry/sync/", registry.sync, name="registry-sync"),
    path("registry/<int:pk>/", registry.entry, name="registry-entry"),
    path("servers/add/", server_form.add_server, name="server-add"),
    path("servers/discover/", server_form.discover, name="server-discover"),
    path("servers/try/", server_form.try_unsaved, name="server-try"),
    path("servers/<slug:slug>/", server.show_server, name="server"),
    path("servers/<slug:slug>/edit/", server_form.edit_server, name="server-edit"),
    path("servers/<slug:slug>/test/", actions.test_server, name="server-test"),
    path("servers/<slug:slug>/doctor/", doctor.server_doctor, name="server-doctor"),
    path("servers/<slug:slug>/doctor/fix/", doctor.apply_fix, name="server-doctor-fix"),
    path("servers/<slug:slug>/refresh-tools/", actions.refresh_tools, name="server-refresh-tools"),
    path("servers/<slug:slug>/enable/", actions.enable_server, name="server-enable"),
    path("servers/<slug:slug>/disable/", actions.disable_server, name="server-disable"),
    path("servers/<slug:slug>/delete/", actions.delete_server, name="server-delete"),
    path("servers/<slug:slug>/connect/", connect.connect_server, name="server-connect"),
    path("servers/<slug:slug>/disconnect/", connect.disconnect_server, name="server-disconnect"),
    path("connections/", connections.my_connections, name="connections"),
    path("connections/<int:pk>/", connection.show_connection, name="connection"),
    path("connections/<int:pk>/disconnect/", connect.disconnect_connection, name="connection-disconnect"),
    path("matrix/", connections.matrix, name="matrix"),
]
