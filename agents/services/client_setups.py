"""What to type, paste or click so that an MCP client uses one gateway URL: the texts of the page “Use it”.

Every format stands beside the document it was read in (November 2026). No text holds a secret: a key goes where it says
YOUR_API_KEY, or into an environment variable or a prompt where the client has one. `make clients` runs what can be run.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from agents.services.client_snippets import FASTMCP_OAUTH, PYTHON_KEY, TYPESCRIPT_KEY

KEY, VARIABLE = "YOUR_API_KEY", "ASTER_API_KEY"
HEADER = f"Authorization: Bearer {KEY}"
# A tool reaches a model as mcp__{name}__{tool} in at most 64 characters (Claude), as name and tool in 60 (Cursor).
LONGEST, SHORTEST_NAME = 57, 8
# Room for tools to come: those of a server that nobody has connected to yet are not known.
USUAL_TOOL = 36
# Hosts that mean a machine or a network of one's own, whatever they resolve to (RFC 6761, RFC 6762, RFC 8375).
PRIVATE_SUFFIXES = ("localhost", "local", "internal", "home.arpa", "test", "lan")


@dataclass(frozen=True)
class Text:
    """Something to copy: where it goes, and what. `data` instead of `text` for JSON, which is shown in colours."""

    title: str
    text: str = ""
    data: Any = None
    is_field: bool = False

    @property
    def shown(self) -> str:
        return self.text or json.dumps(self.data, indent=2, ensure_ascii=False)


@dataclass(frozen=True)
class Way:
    """One way in: what to do first, what to copy, what to do then; or why there is no such way."""

    texts: tuple[Text, ...] = ()
    before: str = ""
    after: str = ""
    link: str = ""
    link_text: str = ""
    missing: str = ""


@dataclass(frozen=True)
class Setup:
    sign_in: Way
    key: Way


@dataclass(frozen=True)
class Endpoint:
    """What a client is told: an address, a title for people, and a short name for tools' prefixes."""

    url: str
    title: str
    name: str

    @property
    def is_public(self) -> bool:
        """Whether somebody else's computer may reach it: https, and no name or address of a private network."""
        parts = urlsplit(self.url)
        host = (parts.hostname or "").rstrip(".")
        try:
            reachable = ipaddress.ip_address(host).is_global
        except ValueError:
            reachable = "." in host and host.rpartition(".")[2] not in PRIVATE_SUFFIXES and "home.arpa" not in host
        return parts.scheme == "https" and reachable

    @property
    def is_own_computer(self) -> bool:
        """What clients take for this computer: plain http is nothing to worry about there."""
        return urlsplit(self.url).hostname in ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Client:
    """A client on the page. `online` ones call from their maker's servers, so they need a public https address."""

    slug: str
    name: str
    words: str
    setup: Callable[[Endpoint], Setup]
    online: bool = False

    def why_unreachable(self, to: Endpoint) -> str:
        """Why this client cannot get to `to`, wherever it runs; "" if it can."""
        if not self.online or to.is_public:
            return ""
        parts = urlsplit(to.url)
        return (
            f"{self.name} calls from its maker's servers: it needs a public https address, and Aster is at "
            f"{parts.scheme}://{parts.netloc}. An admin can publish Aster and set ASTER_PUBLIC_URL."
        )


def short_name(slug: str, longest_tool: int) -> str:
    """`slug` cut so that the names clients make of it and of a tool stay within their limits, at a hyphen if it can."""
    room = max(SHORTEST_NAME, LONGEST - max(longest_tool, USUAL_TOOL))
    if len(slug) <= room:
        return slug
    cut = slug[:room]
    whole, hyphen, _ = cut.rpartition("-") if slug[room] != "-" else (cut, "-", "")
    return whole if hyphen and len(whole) >= SHORTEST_NAME else cut.rstrip("-")


def name_fits(name: str, longest_tool: int) -> bool:
    return len(name) + longest_tool <= LONGEST


# --- Apps -----------------------------------------------------------------------------------------------------------


# https://support.claude.com/en/articles/11503834: connectors only under Customize > Connectors, called from Anthropic's
# servers; no header can be given. For a key, mcp-remote (its README: no space after the colon, for Windows).
def _claude(to: Endpoint) -> Setup:
    return Setup(
        Way(
            (Text("Name", to.title, is_field=True), Text("Remote MCP server URL", to.url, is_field=True)),
            before="In Claude, open Customize → Connectors, choose + and “Add custom connector”, and fill in:",
            after="Leave the advanced settings empty. Choose Connect: Claude sends you here to sign in. In a Team or "
            "Enterprise organization, an owner adds the connector once for everybody.",
        ),
        Way(
            (Text("claude_desktop_config.json", data=_stdio(to)),),
            before="Connectors take no key. Claude Desktop can use one with the help of mcp-remote (Node.js): Settings "
            "→ Developer → Edit Config, then restart Claude.",
        ),
    )


# https://developers.openai.com/apps-sdk, https://zuplo.com/docs/mcp-gateway/connect-clients/chatgpt
def _chatgpt(to: Endpoint) -> Setup:
    return Setup(
        Way(
            (Text("Name", to.title, is_field=True), Text("MCP Server URL", to.url, is_field=True)),
            before="In ChatGPT on the web, open Settings → Apps → Advanced settings and switch on Developer mode. "
            "Then choose “Create app”, fill in these, and OAuth as the authentication:",
            after="Choose Create: ChatGPT sends you here to sign in.",
        ),
        Way(missing="ChatGPT takes no key: sign in."),
    )


# https://code.visualstudio.com/docs/copilot/reference/mcp-configuration (servers, inputs) and
# https://code.visualstudio.com/docs/copilot/guides/mcp-developer-guide (vscode:mcp/install?, URL-encoded JSON)
def _vscode(to: Endpoint) -> Setup:
    server = {"type": "http", "url": to.url}
    link = "vscode:mcp/install?" + quote(json.dumps({"name": to.name, **server}), safe="")
    asked = {"type": "promptString", "id": "aster-key", "description": "Aster API key", "password": True}
    headers = {"Authorization": "Bearer ${input:aster-key}"}
    return Setup(
        Way(
            (Text(".vscode/mcp.json", data={"servers": {to.name: server}}),),
            before="Use the button, or put this into your project, or into “MCP: Open User Configuration”:",
            after="Start the server there: VS Code opens the browser for you to sign in.",
            link=link,
            link_text="Add to VS Code",
        ),
        Way(
            (Text(".vscode/mcp.json", data={"inputs": [asked], "servers": {to.name: {**server, "headers": headers}}}),),
            after="VS Code asks for the key once and keeps it out of the file.",
        ),
    )


# https://cursor.com/docs/mcp/install-links: the configuration of one server, base64; ${env:…} in its mcp.json
def _cursor(to: Endpoint) -> Setup:
    server = {"url": to.url}
    config = base64.b64encode(json.dumps(server).encode()).decode()
    link = (
        f"cursor://anysphere.cursor-deeplink/mcp/install?name={quote(to.name, safe='')}&config={quote(config, safe='')}"
    )
    headers = {"Authorization": f"Bearer ${{env:{VARIABLE}}}"}
    return Setup(
        Way(
            (Text("~/.cursor/mcp.json", data={"mcpServers": {to.name: server}}),),
            before="Use the button, or put this into the file (or into .cursor/mcp.json of a project):",
            after="Choose “Needs login” beside the server in Cursor's settings: the browser opens for you to sign in.",
            link=link,
            link_text="Add to Cursor",
        ),
        Way(
            (Text("~/.cursor/mcp.json", data={"mcpServers": {to.name: {**server, "headers": headers}}}),),
            after=f"Cursor reads the key from the environment variable {VARIABLE}.",
        ),
    )


# --- In a terminal --------------------------------------------------------------------------------------------------


# https://code.claude.com/docs/en/mcp: --header takes several values, so it comes last.
def _claude_code(to: Endpoint) -> Setup:
    add = f"claude mcp add --transport http {shlex.quote(to.name)} {shlex.quote(to.url)}"
    return Setup(
        Way(
            (Text("In a terminal", add),),
            after=f"Then start claude, type /mcp, choose {to.name} and Authenticate: the browser opens for you to sign "
            "in. With --scope user after add, it is there in every project.",
        ),
        Way((Text("In a terminal", f'{add} --header "{HEADER}"'),)),
    )


# https://developers.openai.com/codex/mcp: an OAuth sign-in by `codex mcp login`; a key only from the environment.
def _codex(to: Endpoint) -> Setup:
    name, add = shlex.quote(to.name), f"codex mcp add {shlex.quote(to.name)} --url {shlex.quote(to.url)}"
    return Setup(
        Way((Text("In a terminal", f"{add}\ncodex mcp login {name}"),), after="The browser opens for you to sign in."),
        Way(
            (Text("In a terminal", f"{add} --bearer-token-env-var {VARIABLE}\nexport {VARIABLE}={KEY}"),),
            after=f"Codex reads the key from {VARIABLE} each time it starts; the file holds only that name.",
        ),
    )


# https://github.com/google-gemini/gemini-cli/blob/main/docs/tools/mcp-server.md
def _gemini(to: Endpoint) -> Setup:
    add, where = "gemini mcp add --scope user --transport http", f"{shlex.quote(to.name)} {shlex.quote(to.url)}"
    return Setup(
        Way(
            (Text("In a terminal", f"{add} {where}"),),
            after=f"Then start gemini and type /mcp auth {to.name}: the browser opens for you to sign in.",
        ),
        Way((Text("In a terminal", f'{add} --header "{HEADER}" {where}'),)),
    )


# Its own --help (2.12.0): --header takes several values, so it comes last.
def _inspector(to: Endpoint) -> Setup:
    web = f"npx -y @modelcontextprotocol/inspector --transport http --server-url {shlex.quote(to.url)}"
    cli = f"npx -y @modelcontextprotocol/inspector --cli {shlex.quote(to.url)} --transport http --method tools/list"
    return Setup(
        Way((Text("In a terminal", web),), after="A page opens. Choose Connect there: it sends you here to sign in."),
        Way((Text("In a terminal", f'{cli} --header "{HEADER}"'),)),
    )


def _curl(to: Endpoint) -> Setup:
    listing = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
    lines = [
        f"curl {shlex.quote(to.url)}",
        f'-H "{HEADER}"',
        '-H "Content-Type: application/json"',
        '-H "Accept: application/json, text/event-stream"',
        f"-d {shlex.quote(listing)}",
    ]
    return Setup(
        Way(missing="curl has no way to sign in: use a key."),
        Way((Text("In a terminal", " \\\n  ".join(lines)),)),
    )


# --- Programs and everything else -------------------------------------------------------------------------------------


def _python(to: Endpoint) -> Setup:
    """The snippets of client_snippets are run against a gateway by `make clients`."""
    return Setup(
        Way(
            (Text("Install", "pip install fastmcp"), Text("client.py", FASTMCP_OAUTH.format(url=json.dumps(to.url)))),
            before="FastMCP opens the browser for you to sign in. With the official SDK, give OAuthClientProvider this "
            "address; it needs no client id.",
        ),
        Way(
            (Text("Install", 'pip install "mcp>=2"'), Text("client.py", PYTHON_KEY.format(url=json.dumps(to.url)))),
            before=f"The official SDK, with the key in the environment variable {VARIABLE}.",
        ),
    )


def _typescript(to: Endpoint) -> Setup:
    return Setup(
        Way(
            before="Give the transport an authProvider instead of a header, with this address; it needs no client id. "
            "The provider keeps the tokens and opens the browser for the person to sign in."
        ),
        Way(
            (
                Text("Install", "npm install @modelcontextprotocol/client"),
                Text("client.mjs", TYPESCRIPT_KEY.replace("{url}", json.dumps(to.url))),
            ),
            before=f"The official SDK, with the key in the environment variable {VARIABLE}.",
        ),
    )


# https://github.com/punkpeye/mcp-remote: clients that can only start a local command.
def _mcp_remote(to: Endpoint) -> Setup:
    server = {"command": "npx", "args": _remote_args(to)}
    return Setup(
        Way(
            (Text("The client's configuration", data={"mcpServers": {to.name: server}}),),
            before="For clients that only start local commands. Needs Node.js.",
            after="When the client starts it, the browser opens for you to sign in.",
        ),
        Way((Text("The client's configuration", data=_stdio(to)),)),
    )


def _other(to: Endpoint) -> Setup:
    server = {"type": "http", "url": to.url}
    headers = {"Authorization": f"Bearer {KEY}"}
    return Setup(
        Way(
            (Text("Most clients' configuration", data={"mcpServers": {to.name: server}}),),
            before="Choose Streamable HTTP as the transport and give it the address. A client that can sign in finds "
            "the rest by itself and registers itself.",
        ),
        Way(
            (Text("Most clients' configuration", data={"mcpServers": {to.name: {**server, "headers": headers}}}),),
            before="Have the client send the key as the header Authorization: Bearer, or as X-API-Key.",
        ),
    )


def _remote_args(to: Endpoint) -> list[str]:
    plain = to.url.startswith("http:") and not to.is_own_computer
    return ["-y", "mcp-remote", to.url, *(["--allow-http"] if plain else [])]


def _stdio(to: Endpoint) -> dict[str, Any]:
    args = [*_remote_args(to), "--header", "Authorization:${AUTH_HEADER}"]
    server = {"command": "npx", "args": args, "env": {"AUTH_HEADER": f"Bearer {KEY}"}}
    return {"mcpServers": {to.name: server}}


CLIENTS = (
    Client("claude-code", "Claude Code", "Anthropic's agent in the terminal", _claude_code),
    Client("claude", "Claude", "claude.ai, Claude Desktop and the phone apps", _claude, online=True),
    Client("vscode", "VS Code", "GitHub Copilot's agent mode", _vscode),
    Client("cursor", "Cursor", "The editor and its command line", _cursor),
    Client("chatgpt", "ChatGPT", "chatgpt.com and its apps", _chatgpt, online=True),
    Client("codex", "Codex", "OpenAI's agent in the terminal and editor", _codex),
    Client("gemini", "Gemini CLI", "Google's agent in the terminal", _gemini),
    Client("mcp-remote", "mcp-remote", "A bridge for clients that only start local commands", _mcp_remote),
    Client("inspector", "MCP Inspector", "The protocol's own tool to look at servers", _inspector),
    Client("python", "Python", "A program of yours, with an SDK", _python),
    Client("typescript", "TypeScript", "A program of yours, with the official SDK", _typescript),
    Client("curl", "curl", "One request, to see that it answers", _curl),
    Client("other", "Another client", "Whatever speaks Streamable HTTP", _other),
)


def find_client(slug: str | None) -> Client:
    """The chosen client, or the first."""
    return next((client for client in CLIENTS if client.slug == slug), CLIENTS[0])
