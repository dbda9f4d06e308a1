"""Aster's MCP client: async, both eras, four transports, no ORM. One kind of error leaves it: `UpstreamError`.

`open_target(target)` yields a `Session` with `list_tools()` and `call_tool()`, and `list_offers()` and `ask()` for all
else; `check_target(target)` is the test that guards saving a server; `probe_target(target)` finds out what is there.
"""

from integrations.mcp_client.check import CheckResult, check_target
from integrations.mcp_client.failures import AuthChallenge, RefusedRequest, was_never_sent
from integrations.mcp_client.kept import KeptSessions, SharedSession
from integrations.mcp_client.offers import PROMPTS, RESOURCES, TEMPLATES, Offer
from integrations.mcp_client.opening import open_target
from integrations.mcp_client.probe import Probe, probe_target, probe_url, require_streamable
from integrations.mcp_client.rounds import Rounds, asks_for_input
from integrations.mcp_client.session import Session
from integrations.mcp_client.target import Era, Target, TokenSource, TransportName, register_connector_resolver
from integrations.mcp_client.tools import KnownTool, ToolListing

__all__ = [
    "PROMPTS",
    "RESOURCES",
    "TEMPLATES",
    "AuthChallenge",
    "CheckResult",
    "Era",
    "KeptSessions",
    "KnownTool",
    "Offer",
    "Probe",
    "RefusedRequest",
    "Rounds",
    "Session",
    "SharedSession",
    "Target",
    "TokenSource",
    "ToolListing",
    "TransportName",
    "asks_for_input",
    "check_target",
    "open_target",
    "probe_target",
    "probe_url",
    "register_connector_resolver",
    "require_streamable",
    "was_never_sent",
]
