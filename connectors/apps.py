from django.apps import AppConfig
from django.conf import settings


class ConnectorsConfig(AppConfig):
    name = "connectors"
    verbose_name = "Connectors"

    def ready(self) -> None:
        from integrations.mcp_client import Target, register_connector_resolver

        def serve(target: Target):  # type: ignore[no-untyped-def]
            from connectors.server import serve_connector  # when the first is called: it takes memory

            return serve_connector(target)

        register_connector_resolver(serve)
        if settings.ASTER_REMOTE_SERVERS_FILE:
            from connectors.remote import remote_servers

            remote_servers()  # a file that cannot be read is the operator's to know at once
