"""Where a client may have its codes sent, and whom a person is told they go to."""

from __future__ import annotations

from urllib.parse import urlsplit

# Cursor's, and the one address with a scheme of its own: any program may claim such a scheme (RFC 8252 §8.4).
CUSTOM = ("cursor://anysphere.cursor-mcp/oauth/callback",)
LOOPBACK = ("127.0.0.1", "::1", "localhost")
MAX_LENGTH, MOST = 500, 20


def problem_with(uri: object) -> str:
    """Why nobody may register this redirect URI; empty if they may."""
    if not isinstance(uri, str) or not uri or len(uri) > MAX_LENGTH:
        return f"A redirect URI is a text of at most {MAX_LENGTH} characters."
    if uri in CUSTOM:
        return ""
    if not is_spelled_out(uri):
        return "A redirect URI holds only the characters of a URI."
    try:
        parts = urlsplit(uri)
        host, _port = parts.hostname, parts.port
    except ValueError:
        return "That is not a URI."
    # RFC 6749 §3.1.2: absolute and without a fragment; a name before the host would only deceive people.
    if "#" in uri or "@" in parts.netloc:
        return "A redirect URI has no fragment, no user name and no password."
    if parts.scheme == "https" and host:
        return ""
    if parts.scheme == "http" and host in LOOPBACK:
        return ""
    return "Redirect URIs begin with https://, or with http:// and a loopback address (RFC 8252)."


def is_spelled_out(uri: str) -> bool:
    """Whether it holds the characters of a URI alone (RFC 3986 §2). It is stored in a list with spaces between, and
    shown to people, to whom letters of two alphabets are one."""
    return uri.isascii() and uri.isprintable() and not any(char in uri for char in ' "<>\\^`{|}')


def matches(uri: str, registered: str) -> bool:
    """Exact comparison (RFC 9700 §2.1), but the port of a loopback address is free (RFC 8252 §7.3)."""
    if uri == registered:
        return True
    return is_loopback(registered) and _without_port(uri) == _without_port(registered) is not None


def is_loopback(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
        return parts.scheme == "http" and parts.hostname in LOOPBACK
    except ValueError:
        return False


def host_of(uri: str) -> str:
    """Whom a code sent to `uri` reaches, for people to read."""
    parts = urlsplit(uri)
    return parts.netloc if parts.scheme in ("http", "https") else f"{parts.scheme}://{parts.netloc}"


def _without_port(uri: str) -> str | None:
    """The URI letter by letter, but for its port. None if it could not be registered."""
    if problem_with(uri):
        return None
    parts = urlsplit(uri)
    host = parts.netloc
    if parts.port is not None or host.endswith(":"):
        host = host.rpartition(":")[0]
    rest = uri.partition("://")[2].removeprefix(parts.netloc)
    # An address without a path is the same as with a slash (RFC 3986 §6.2.3); VS Code writes either.
    return f"{uri.partition('://')[0]}://{host}{rest or '/'}"
