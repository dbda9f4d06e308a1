from django.apps import AppConfig


class ConnectorsConfig(AppConfig):
    name = "connectors"
    verbose_name = "Connectors"

    def ready(self) -> None:
        from integrations.mcp_client import Target, register_connector_resolver

        def serve(target: Target):  # type: ignore[no-untyped-def]
            from connectors.server import serve_connector  # when the first is called: it takes memory

            return serve_connector(target)

        register_connector_resolver(serve)
