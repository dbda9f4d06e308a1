"""MCP servers, how to sign in to them, who is signed in, and the tools they were seen to offer."""

from integrations.models.auth_configs import (
    DERIVED,
    PERSONAL,
    AuthConfig,
    AuthConfigQuerySet,
    AuthType,
    ClientMode,
    ClientRegistration,
    ResourceMode,
    TokenAuthMethod,
    callback_url,
)
from integrations.models.connections import (
    Connection,
    ConnectionQuerySet,
    ConnectionStatus,
    PendingAuthorization,
    RefreshAttempt,
    RefreshOutcome,
)
from integrations.models.registry import EntryStatus, RegistryEntry, RegistrySync
from integrations.models.servers import (
    OWN_TRANSPORTS,
    McpServer,
    McpServerQuerySet,
    TestStatus,
    Tool,
    Transport,
)

__all__ = [
    "DERIVED",
    "OWN_TRANSPORTS",
    "PERSONAL",
    "AuthConfig",
    "AuthConfigQuerySet",
    "AuthType",
    "ClientMode",
    "ClientRegistration",
    "Connection",
    "ConnectionQuerySet",
    "ConnectionStatus",
    "EntryStatus",
    "McpServer",
    "McpServerQuerySet",
    "PendingAuthorization",
    "RefreshAttempt",
    "RefreshOutcome",
    "RegistryEntry",
    "RegistrySync",
    "ResourceMode",
    "TestStatus",
    "TokenAuthMethod",
    "Tool",
    "Transport",
    "callback_url",
]
