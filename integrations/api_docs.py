"""What the OpenAPI document says about each operation on servers, auth configs and connections."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiParameter

from aster.openapi import (
    PAGE_PARAMETERS,
    Operation,
    id_parameter,
    key_parameter,
    operation,
    page_example,
    page_of,
    refusal,
)
from integrations import api_examples as examples
from integrations import api_shapes as shapes
from integrations.serializers import AuthConfigIn, BeginIn, DiscoverIn, FixIn, ServerIn, ServerTestIn

SERVERS, AUTH_CONFIGS, CONNECTIONS = "MCP servers", "Auth configs", "Connections"

_SERVER = (key_parameter("MCP server"),)
_AUTH_CONFIG = (key_parameter("auth config", slug=False),)
_SECRETS = (
    "Secrets come back as `[REDACTED]`; sent back so, they keep what is stored. Fields left out keep their value."
)

CONNECTION_REQUIRED = refusal(
    shapes.ConnectionRequiredOut,
    "The caller must connect first, or again: open `authorization_url` or `connect_url`, then repeat the request. "
    "Or an admin switched it off (`server_disabled`, `agent_disabled`, `tool_disabled`), or the tool has changed "
    "and waits for an admin (`tool_quarantined`), without these addresses.",
    {"Connection required": examples.CONNECTION_REQUIRED},
)
TEST_FAILED = refusal(
    shapes.ConnectionTestFailedOut,
    "The test failed, or the address is one that Aster refuses to reach; nothing was stored.",
    {"Test failed": examples.FAILED_CREATION},
)

# --- Auth configs ---------------------------------------------------------------------------------------------------

LIST_AUTH_CONFIGS: Operation = operation(
    "list_auth_configs", "List auth configs", tag=AUTH_CONFIGS, errors=(400, 404), parameters=PAGE_PARAMETERS,
    response=page_of("AuthConfigPage", shapes.AuthConfigOut), example=page_example(examples.AUTH_CONFIG),
)  # fmt: skip
CREATE_AUTH_CONFIG: Operation = operation(
    "create_auth_config", "Create an auth config", tag=AUTH_CONFIGS, errors=(400, 409, 422), status=201,
    words="Stores how to sign in, to be used by any number of servers. Nothing is asked of the provider yet.",
    request=AuthConfigIn, response=shapes.AuthConfigOut, example=examples.AUTH_CONFIG,
    bodies={
        "OAuth authorization code": examples.OAUTH_CONFIG_BODY,
        "OAuth client credentials": examples.MACHINE_CONFIG_BODY,
        "API key in a header": examples.HEADER_CONFIG_BODY,
        "Username and password": examples.BASIC_CONFIG_BODY,
    },
)  # fmt: skip
GET_AUTH_CONFIG: Operation = operation(
    "get_auth_config", "Get an auth config", tag=AUTH_CONFIGS, errors=(404,), parameters=_AUTH_CONFIG,
    response=shapes.AuthConfigOut, example=examples.AUTH_CONFIG,
)  # fmt: skip
UPDATE_AUTH_CONFIG: Operation = operation(
    "update_auth_config", "Update an auth config", tag=AUTH_CONFIGS, errors=(400, 404, 409, 422),
    words=_SECRETS, parameters=_AUTH_CONFIG, request=AuthConfigIn, response=shapes.AuthConfigOut,
    example=examples.AUTH_CONFIG,
    bodies={"Replace the secret": {"client_secret": "the-new-secret"}, "Ask for more": {"scopes": ["notes:write"]}},
)  # fmt: skip
DELETE_AUTH_CONFIG: Operation = operation(
    "delete_auth_config", "Delete an auth config", tag=AUTH_CONFIGS, errors=(404, 409), parameters=_AUTH_CONFIG,
    words="Refused with 409 while a server uses it or somebody is connected through it.", status=204,
)  # fmt: skip

# --- Connecting -----------------------------------------------------------------------------------------------------

AUTHORIZE: Operation = operation(
    "authorize", "Start an OAuth sign-in", tag=CONNECTIONS, errors=(400, 404, 422, 502, 504),
    words="Open the returned `authorization_url` in the person's browser within ten minutes. The provider sends them "
    "to Aster's own callback, which finishes the sign-in, or to `redirect_uri` with `code` and `state`, to be passed "
    "to `/api/v1/oauth/callback`. Client credentials need no consent: the connection comes back at once.",
    parameters=(
        *_AUTH_CONFIG,
        OpenApiParameter(
            "redirect_uri", str,
            description="One of the auth config's `allowed_redirect_uris`. Aster's own callback if left out.",
        ),
    ),
    request=BeginIn, response=shapes.BegunOut, example=examples.BEGUN,
    bodies={"Back to my own page": {"redirect_uri": "https://tools.acme.example/callback"}},
)  # fmt: skip
CALLBACK: Operation = operation(
    "complete_authorization", "Finish an OAuth sign-in", tag=CONNECTIONS, errors=(400, 422, 502, 504),
    words="Exchanges the code for tokens, which Aster keeps and renews. The caller must be the one who started the "
    "sign-in. Each `state` works once.",
    parameters=(
        OpenApiParameter("code", str, description="As the provider gave it."),
        OpenApiParameter("state", str, required=True, description="As the provider gave it."),
        OpenApiParameter("iss", str, description="Pass it on if the provider sent it (RFC 9207)."),
        OpenApiParameter("error", str, description="Pass it on if the provider sent it instead of a code."),
        OpenApiParameter("error_description", str, description="Likewise."),
    ),
    response=shapes.CompletedOut, example=examples.COMPLETED,
)  # fmt: skip
CONNECT: Operation = operation(
    "connect_server", "Connect to a server", tag=CONNECTIONS, errors=(400, 404, 409, 422, 502, 504),
    words="Like `authorize`, for the auth config of a server. A server with shared credentials answers `connected`.",
    parameters=_SERVER, request=BeginIn, response=shapes.BegunOut, bodies={"Aster's own callback": {}},
    example=examples.BEGUN,
)  # fmt: skip
CONNECTION: Operation = operation(
    "get_server_connection", "Show the caller's connection to a server", tag=CONNECTIONS, errors=(404,),
    parameters=_SERVER, response=shapes.ConnectionStateOut, example=examples.CONNECTION_STATE,
)  # fmt: skip
DISCONNECT: Operation = operation(
    "disconnect_server", "End the caller's connection to a server", tag=CONNECTIONS, errors=(404,),
    words="Revokes the tokens at the provider (RFC 7009) and deletes them here, also when the provider fails.",
    parameters=_SERVER, response=shapes.DisconnectedOut, example=examples.DISCONNECTED,
)  # fmt: skip
LIST_CONNECTIONS: Operation = operation(
    "list_connections", "List connections", tag=CONNECTIONS, errors=(400, 404),
    words="One's own; for admins, everybody's in the organization. Never their tokens.",
    parameters=(
        *PAGE_PARAMETERS, OpenApiParameter("mine", bool, description="Only the caller's own, also for admins."),
    ),
    response=page_of("ConnectionPage", shapes.ConnectionOut), example=page_example(examples.CONNECTION),
)  # fmt: skip
GET_CONNECTION: Operation = operation(
    "get_connection", "Get a connection", tag=CONNECTIONS, errors=(404,), parameters=(id_parameter("connection"),),
    response=shapes.ConnectionOut, example=examples.CONNECTION,
)  # fmt: skip
DELETE_CONNECTION: Operation = operation(
    "delete_connection", "End a connection", tag=CONNECTIONS, errors=(404,), parameters=(id_parameter("connection"),),
    words="One's own, or as an admin anybody's. Answers with what the provider said to the revocation.",
    response=shapes.DisconnectedOut, example=examples.DISCONNECTED,
)  # fmt: skip

CONNECTION_LEDGER: Operation = operation(
    "list_connection_refreshes", "A connection's ledger", tag=CONNECTIONS, errors=(400, 404),
    words="Every time the grant was asked for or renewed: when, by whom, and how it ended. Newest first, for 90 days.",
    parameters=(id_parameter("connection"), *PAGE_PARAMETERS),
    response=page_of("RefreshAttemptPage", shapes.RefreshAttemptOut), example=page_example(examples.ATTEMPT),
)  # fmt: skip

# --- Servers --------------------------------------------------------------------------------------------------------

LIST_SERVERS: Operation = operation(
    "list_servers", "List MCP servers", tag=SERVERS, errors=(400, 404), parameters=PAGE_PARAMETERS,
    response=page_of("ServerPage", shapes.ServerOut), example=page_example(examples.SERVER),
)  # fmt: skip
CREATE_SERVER: Operation = operation(
    "create_server", "Create an MCP server", tag=SERVERS, errors=(400, 409), refusals={422: TEST_FAILED}, status=201,
    words="The connection is tested first; if that fails, nothing is stored. `test_connection: false` stores it "
    "untested. Its name must differ from those of the organization's other servers, in more than case (409). A server "
    "where each person signs in is asked where to sign in instead: what the provider publishes "
    "fills the empty fields of the auth config (`discovery_result`). `auth_config` is created with the server, or not "
    "at all.",
    request=ServerIn, bodies=examples.SERVER_BODIES, response=shapes.ServerSavedOut, example=examples.SAVED_SERVER,
)  # fmt: skip
GET_SERVER: Operation = operation(
    "get_server", "Get an MCP server", tag=SERVERS, errors=(404,), parameters=_SERVER,
    response=shapes.ServerOut, example=examples.SERVER,
)  # fmt: skip
UPDATE_SERVER: Operation = operation(
    "update_server", "Update an MCP server", tag=SERVERS, errors=(400, 404, 409), refusals={422: TEST_FAILED},
    words=f"{_SECRETS} Not tested before it is stored; call `test` afterwards.", parameters=_SERVER,
    request=ServerIn, response=shapes.ServerSavedOut,
    bodies={"Switch off": {"is_enabled": False}, "Tool scopes": {"tool_scopes": {"delete_note": ["notes:delete"]}}},
    example={**examples.SAVED_SERVER, "connection_test_result": None, "discovery_result": None},
)  # fmt: skip
PUT_SERVER: Operation = operation(
    "put_server", "Create or update an MCP server by slug", tag=SERVERS, errors=(400, 404, 409),
    refusals={422: TEST_FAILED}, parameters=(key_parameter("MCP server"),),
    words="Creates the server with this slug (201, tested first like any new one) or brings the stored one in line "
    "(200). Fields left out keep their value. The same request twice changes nothing.",
    request=ServerIn, response=shapes.ServerSavedOut, bodies={"Desired state": examples.SERVER_BODY},
    example={**examples.SAVED_SERVER, "connection_test_result": None, "discovery_result": None},
)  # fmt: skip
PUT_SERVER["responses"][201] = CREATE_SERVER["responses"][201]
DELETE_SERVER: Operation = operation(
    "delete_server", "Delete an MCP server", tag=SERVERS, errors=(404, 409), parameters=_SERVER, status=204,
    words="With its tools, and with its auth config if nothing else uses that and nobody is connected.",
)  # fmt: skip
DISCOVER: Operation = operation(
    "discover_server", "Find out how to sign in at an address", tag=SERVERS, errors=(400, 422, 502),
    words="Asks the server without credentials, and follows its challenge to the metadata of its provider.",
    request=DiscoverIn, bodies={"Address": {"url": "https://mcp.acme.example/mcp"}},
    response=shapes.DiscoveryOut, example=examples.DISCOVERY,
)  # fmt: skip
TEST_UNSAVED: Operation = operation(
    "test_unsaved_server", "Test a server that is not stored", tag=SERVERS, errors=(400, 422),
    words="Takes the body that would create it and stores nothing. A failed test is a 200 that says what failed.",
    request=ServerTestIn, bodies={"Address": {"url": "https://mcp.acme.example/mcp"}},
    response=shapes.TestWithToolsOut, example=examples.TEST_WITH_TOOLS,
)  # fmt: skip
TEST_SERVER: Operation = operation(
    "test_server", "Test a stored server", tag=SERVERS, errors=(404,), parameters=_SERVER,
    words="As the caller, and keeps the result and the tools seen. A failed test is a 200 that says what failed.",
    response=shapes.TestWithToolsOut, example=examples.TEST_WITH_TOOLS,
)  # fmt: skip
DIAGNOSE: Operation = operation(
    "diagnose_server", "Find out why a server does not work", tag=SERVERS, errors=(404, 409), parameters=_SERVER,
    words="The connection doctor: one run as the caller along the whole path, from the address over the sign-in "
    "provider to the tools, in at most 30 seconds. Registers nothing at the provider and renews no token that a call "
    "would not renew. What is broken is a 200 that says what and why.",
    response=shapes.DiagnosisOut, example=examples.DIAGNOSIS,
)  # fmt: skip
DIAGNOSIS: Operation = operation(
    "get_server_diagnosis", "Show the doctor's last run", tag=SERVERS, errors=(404,), parameters=_SERVER,
    words="Whoever started it. Steps about another person's sign-in are left out for members. 404 before the first "
    "run, and after the server was pointed elsewhere.",
    response=shapes.DiagnosisOut, example=examples.DIAGNOSIS,
)  # fmt: skip
FIX: Operation = operation(
    "fix_server", "Apply a fix the doctor offers", tag=SERVERS, errors=(400, 404, 409, 422, 502), parameters=_SERVER,
    words="Changes the settings as the last run offered with the kind `apply`, and looks again. 409 if the last run "
    "offers no such fix, or it is not Aster's to do.",
    request=FixIn, bodies={"Leave out the resource": {"fix": "omit_resource"}},
    response=shapes.DiagnosisOut, example=examples.DIAGNOSIS,
)  # fmt: skip
TOOLS: Operation = operation(
    "list_server_tools", "List a server's tools", tag=SERVERS, errors=(400, 404, 502, 504),
    refusals={409: CONNECTION_REQUIRED}, parameters=(*_SERVER, *PAGE_PARAMETERS),
    words="From what Aster last saw: a server that is down does not empty the list. One that was never listed is "
    "asked now.",
    response=page_of("ToolPage", shapes.ToolOut), example=page_example(examples.SEEN_TOOL),
)  # fmt: skip
TOOLS_REFRESH: Operation = operation(
    "refresh_server_tools", "Ask a server for its tools now", tag=SERVERS, errors=(404, 502, 504),
    refusals={409: CONNECTION_REQUIRED}, parameters=_SERVER,
    response=shapes.RefreshedOut, example={**examples.TEST, "results": [examples.SEEN_TOOL]},
)  # fmt: skip
