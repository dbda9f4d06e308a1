"""The texts that people copy into their clients: each is read as the client would read it."""

from __future__ import annotations

import base64
import json
import shlex
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from agents.services.client_setups import CLIENTS, KEY, Endpoint, Text, Way, find_client, name_fits, short_name

LONG = "a-very-long-name-that-somebody-gave-to-this-agent1"
ENDPOINTS = [
    Endpoint("http://127.0.0.1:8000/mcp/acme/helper", "Helper", "helper"),
    Endpoint(f"https://aster.example.com:8443/some/prefix/mcp/{LONG}/{LONG}/{LONG}", "Größe & “Ähm” </script>", LONG),
    Endpoint("https://aster.example.com/mcp/it's/a b?c=$(touch x)&d=`e`\"#\\", "$(rm) 'x' \"y\"", "o'dd $(name) \"`"),
]
every_endpoint = pytest.mark.parametrize("to", ENDPOINTS, ids=["plain", "long", "odd"])


def ways(slug: str, to: Endpoint) -> tuple[Way, Way]:
    setup = find_client(slug).setup(to)
    return setup.sign_in, setup.key


def words(text: Text) -> list[str]:
    """The words a shell makes of the first command."""
    return shlex.split(text.text.replace("\\\n", " ").splitlines()[0])


@every_endpoint
@pytest.mark.parametrize("client", CLIENTS, ids=[client.slug for client in CLIENTS])
def test_every_way_names_the_address_or_says_why_there_is_none(client: Any, to: Endpoint) -> None:
    setup = client.setup(to)
    for way in (setup.sign_in, setup.key):
        if way.texts:
            assert any(to.url in text.shown or json.dumps(to.url)[1:-1] in text.shown for text in way.texts) or any(
                to.url in words(text) for text in way.texts
            )
        else:
            assert way.missing or way.before
    assert KEY not in "".join(text.shown for text in setup.sign_in.texts) + setup.sign_in.link


@every_endpoint
def test_commands_reach_their_program_as_they_are_meant(to: Endpoint) -> None:
    header = f"Authorization: Bearer {KEY}"
    add = ["claude", "mcp", "add", "--transport", "http", to.name, to.url]
    sign_in, key = ways("claude-code", to)
    assert words(sign_in.texts[0]) == add and words(key.texts[0]) == [*add, "--header", header]
    sign_in, key = ways("codex", to)
    assert words(sign_in.texts[0]) == ["codex", "mcp", "add", to.name, "--url", to.url]
    assert shlex.split(sign_in.texts[0].text.splitlines()[1]) == ["codex", "mcp", "login", to.name]
    assert words(key.texts[0])[-2:] == ["--bearer-token-env-var", "ASTER_API_KEY"]
    add = ["gemini", "mcp", "add", "--scope", "user", "--transport", "http"]
    sign_in, key = ways("gemini", to)
    assert words(sign_in.texts[0]) == [*add, to.name, to.url]
    assert words(key.texts[0]) == [*add, "--header", header, to.name, to.url]
    assert words(ways("inspector", to)[1].texts[0])[-2:] == ["--header", header]
    curl = shlex.split(ways("curl", to)[1].texts[0].text.replace("\\\n", " "))
    assert curl[:4] == ["curl", to.url, "-H", header] and json.loads(curl[-1])["method"] == "tools/list"


@every_endpoint
def test_files_hold_the_address_and_keep_the_key_out_where_they_can(to: Endpoint) -> None:
    sign_in, key = (json.loads(way.texts[0].shown) for way in ways("vscode", to))
    assert sign_in == {"servers": {to.name: {"type": "http", "url": to.url}}}
    asked = key["inputs"][0]
    assert asked["password"] is True and asked["type"] == "promptString"
    assert key["servers"][to.name]["headers"] == {"Authorization": f"Bearer ${{input:{asked['id']}}}"}
    sign_in, key = (json.loads(way.texts[0].shown) for way in ways("cursor", to))
    assert sign_in == {"mcpServers": {to.name: {"url": to.url}}}
    assert key["mcpServers"][to.name]["headers"] == {"Authorization": "Bearer ${env:ASTER_API_KEY}"}
    for slug in ("claude", "mcp-remote"):
        server = json.loads(ways(slug, to)[1].texts[0].shown)["mcpServers"][to.name]
        assert server["args"][:3] == ["-y", "mcp-remote", to.url] and " " not in server["args"][-1]
        assert server["env"] == {"AUTH_HEADER": f"Bearer {KEY}"}


@every_endpoint
def test_links_install_the_address_and_nothing_else(to: Endpoint) -> None:
    link = ways("vscode", to)[0].link
    assert link.startswith("vscode:mcp/install?")
    assert json.loads(unquote(link.partition("?")[2])) == {"name": to.name, "type": "http", "url": to.url}
    parts = urlsplit(ways("cursor", to)[0].link)
    assert (parts.scheme, parts.netloc, parts.path) == ("cursor", "anysphere.cursor-deeplink", "/mcp/install")
    asked = parse_qs(parts.query)
    assert asked["name"] == [to.name] and json.loads(base64.b64decode(asked["config"][0])) == {"url": to.url}


@every_endpoint
def test_programs_are_programs(to: Endpoint) -> None:
    for way in ways("python", to):
        scope: dict[str, Any] = {}
        program = way.texts[-1].text
        compile(program, "client.py", "exec")
        exec(next(line for line in program.splitlines() if line.startswith("URL = ")), scope)
        assert scope["URL"] == to.url
    assert f"new URL({json.dumps(to.url)})" in ways("typescript", to)[1].texts[-1].text


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("https://aster.example.com/mcp/a/b", True),
        ("https://8.8.8.8/mcp/a/b", True),
        ("http://aster.example.com/mcp/a/b", False),
        ("https://127.0.0.1:8000/mcp/a/b", False),
        ("https://[::1]/mcp/a/b", False),
        ("https://10.1.2.3/mcp/a/b", False),
        ("https://localhost/mcp/a/b", False),
        ("https://aster/mcp/a/b", False),
        ("https://aster.corp.internal/mcp/a/b", False),
        ("https://aster.home.arpa./mcp/a/b", False),
    ],
)
def test_clients_that_call_from_elsewhere_say_when_they_cannot(url: str, public: bool) -> None:
    to = Endpoint(url, "Helper", "helper")
    for slug in ("claude", "chatgpt"):
        assert bool(find_client(slug).why_unreachable(to)) is not public
    assert not find_client("claude-code").why_unreachable(to)


def test_plain_http_is_allowed_on_purpose_where_the_bridge_refuses_it() -> None:
    inside = Endpoint("http://aster.corp/mcp/a/b", "Helper", "helper")
    assert "--allow-http" in ways("mcp-remote", inside)[0].texts[0].shown
    assert all("--allow-http" not in ways("mcp-remote", to)[0].texts[0].shown for to in ENDPOINTS)


@pytest.mark.parametrize(
    ("slug", "longest", "name"),
    [
        ("research-assistant", 0, "research-assistant"),
        ("assistant-of-the-research-group", 0, "assistant-of-the"),
        ("research-assistant", 39, "research-assistant"),
        ("research-assistant", 40, "research"),
        ("research-assistant", 60, "research"),
        ("researchassistant", 45, "researchassi"),
        ("a-researchassistant", 45, "a-researchas"),
        ("research-a-b", 46, "research-a"),
    ],
)
def test_a_name_leaves_room_for_the_longest_tool(slug: str, longest: int, name: str) -> None:
    assert short_name(slug, longest) == name
    assert name_fits(name, longest) is (longest < 50)


def test_an_unknown_client_is_the_first() -> None:
    assert find_client("nothing").slug == find_client(None).slug == CLIENTS[0].slug
