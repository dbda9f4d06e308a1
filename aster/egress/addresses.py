"""What Aster may reach: one judgement, over values.

`check_url` runs before a URL is stored, `check_target` before every request and `vet` before every dial. All three are
built on `classify`, so an address means the same wherever it turns up.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

import httpx2
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from aster.errors import ForbiddenAddress, InvalidInput

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolver = Callable[[str, int], Sequence[str]]  # host and port in, addresses out; raises OSError when there are none

MAX_URL_LENGTH = 2048
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_ASK = "Ask the operator to list the host in ASTER_ALLOWED_HOSTS_PRIVATE."


class Reach(Enum):
    """How an address is routed; the value says it in words."""

    PUBLIC = "a public address"
    LOOPBACK = "a loopback address"
    PRIVATE = "a private address"
    METADATA = "a cloud metadata or link-local address"
    UNUSABLE = "a reserved address"


# The first match wins. The tables are ours because `is_global` of Python 3.11 still calls 64:ff9b:1::/48 and 2002::/16
# global, and because metadata services also live on addresses that are otherwise routable or private.
_RANGES: tuple[tuple[IPNetwork, Reach], ...] = tuple(
    (ipaddress.ip_network(network), reach)
    for reach, networks in {
        # AWS, Azure, Google and OpenStack (with the container credential endpoints beside it) use 169.254.0.0/16;
        # then Alibaba, Oracle, Azure's wire server, AWS over IPv6, Google, Oracle and Scaleway over IPv6.
        Reach.METADATA: "169.254.0.0/16 100.100.100.200/32 192.0.0.192/32 168.63.129.16/32 fe80::/10 fd00:ec2::/32 "
        "fd20:ce::254/128 fd00:c1::a9fe:a9fe/128 fd00:42::42/128",
        Reach.LOOPBACK: "127.0.0.0/8 ::1/128",
        # RFC 1918, RFC 6598 (carrier NAT, also overlay networks), RFC 2544 (benchmarks), RFC 4193.
        Reach.PRIVATE: "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10 198.18.0.0/15 fc00::/7",
        # IANA special-purpose registries. 2001::/23 holds Teredo, 2002::/16 is 6to4: relays nobody runs any more, and
        # the inner address would be dialled by somebody else, so they are refused whatever they embed.
        Reach.UNUSABLE: "0.0.0.0/8 192.0.0.0/24 192.0.2.0/24 192.88.99.0/24 198.51.100.0/24 203.0.113.0/24 "
        "224.0.0.0/4 240.0.0.0/4 2001::/23 2001:db8::/32 2002::/16 3fff::/20",
    }.items()
    for network in networks.split()
)
_GLOBAL_UNICAST_V6 = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def parse_address(text: str) -> IPAddress:
    """The address that is really dialled: no zone id, and an IPv4-mapped address is its IPv4. ValueError if none."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def parse_literal(host: str) -> IPAddress | None:
    """The address if a URL's host is one, None if it is a name."""
    try:
        return parse_address(host) if "%" not in host else None
    except ValueError:
        return None


def classify(address: IPAddress) -> Reach:
    """How `address` is routed, judged by any IPv4 address it embeds as well."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return classify(address.ipv4_mapped)
        if address in _NAT64:
            # Networks with IPv6 only reach every IPv4 host this way (RFC 6147), so a public one passes. RFC 6052 §3.1
            # forbids anything else behind this prefix; the local-use 64:ff9b:1::/48 fails the 2000::/3 test below.
            inner = classify(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
            return inner if inner in (Reach.PUBLIC, Reach.METADATA) else Reach.UNUSABLE
        if (int(address) >> 32) & 0xFDFFFFFF == 0x00005EFE:  # ISATAP, RFC 5214 §6.1
            return Reach.UNUSABLE
    for network, reach in _RANGES:
        if address.version == network.version and address in network:
            return reach
    if isinstance(address, ipaddress.IPv6Address):
        # Whatever else is not global unicast: unspecified, IPv4-compatible, site-local, multicast, SRv6 …
        return Reach.PUBLIC if address in _GLOBAL_UNICAST_V6 else Reach.UNUSABLE
    return Reach.PUBLIC if address.is_global else Reach.UNUSABLE


@dataclass(frozen=True)
class AllowedHost:
    """One entry of ASTER_ALLOWED_HOSTS_PRIVATE: a name or a network, perhaps for one port only."""

    name: str
    network: IPNetwork | None
    port: int | None


@lru_cache(maxsize=64)
def parse_allowed(entries: tuple[str, ...]) -> tuple[AllowedHost, ...]:
    """Entries like `mcp.lan`, `mcp.lan:8443`, `10.0.0.5`, `10.0.0.0/8`, `[fd00::5]:8080`, `fd00::/8`."""
    return tuple(_parse_entry(entry.strip()) for entry in entries if entry.strip())


def _parse_entry(entry: str) -> AllowedHost:
    match = re.fullmatch(r"\[(?P<v6>[^\]]+)\](?::(?P<v6port>\d+))?|(?P<host>[^:]+)(?::(?P<port>\d+))?", entry)
    host, port = (match["v6"] or match["host"], match["v6port"] or match["port"]) if match else (entry, None)
    if port is not None and not 0 < int(port) < 65536:
        raise ImproperlyConfigured(f"ASTER_ALLOWED_HOSTS_PRIVATE: {entry!r} has a port outside 1-65535.")
    try:
        network: IPNetwork | None = ipaddress.ip_network(host, strict=False)
    except ValueError:
        network = None
    name = host.lower().rstrip(".")
    if network is None and not _is_host_name(name):
        raise ImproperlyConfigured(f"ASTER_ALLOWED_HOSTS_PRIVATE: {entry!r} is no host name, address or network.")
    return AllowedHost("" if network else name, network, int(port) if port else None)


@dataclass(frozen=True)
class Policy:
    """What the operator allows beyond public https. A policy is a value: equal settings are equal policies."""

    debug: bool = False
    allowed: tuple[str, ...] = ()

    @classmethod
    def from_settings(cls) -> Policy:
        return _policy(bool(settings.DEBUG), tuple(settings.ASTER_ALLOWED_HOSTS_PRIVATE))

    def lists(self, host: str, port: int) -> bool:
        """Whether the operator's list names this host name or address literal (for this port)."""
        name, address = host.rstrip("."), parse_literal(host)
        return any(
            (entry.network.version == address.version and address in entry.network)
            if entry.network and address
            else (not entry.network and not address and entry.name == name)
            for entry in parse_allowed(self.allowed)
            if entry.port in (None, port)
        )

    def permits(self, address: IPAddress, port: int, *, host_is_listed: bool) -> bool:
        match classify(address):
            case Reach.PUBLIC:
                return True
            case Reach.LOOPBACK:
                return self.debug  # Listed or not: in production the loopback interface is never a destination.
            case Reach.PRIVATE:
                return host_is_listed or self.lists(str(address), port)
            case _:
                return False


_policy = lru_cache(maxsize=16)(Policy)


def parse_url(url: str) -> httpx2.URL:
    """Parse with the parser that later dials, so both see the same host. InvalidInput (`invalid_url`) if malformed."""
    if len(url) > MAX_URL_LENGTH:
        raise _invalid(f"The URL is longer than {MAX_URL_LENGTH} characters.")
    if any(char.isspace() or not char.isprintable() or char == "\\" for char in url):
        raise _invalid("The URL contains spaces, control characters or a backslash. Remove them.")
    if "#" in url:
        raise _invalid("Remove the part after # from the URL.")
    try:
        return httpx2.URL(url)
    except httpx2.InvalidURL:
        raise _invalid("This is not a URL. Write it like https://mcp.example.com/mcp.") from None


def check_target(url: httpx2.URL, policy: Policy) -> tuple[str, int]:
    """Everything about a request's URL that needs no lookup; host and effective port out.

    InvalidInput (`invalid_url`) for what no policy could allow, ForbiddenAddress for what the policy refuses.
    """
    if url.userinfo:
        raise _invalid("Remove the user name and password from the URL. Put credentials into the sign-in settings.")
    return _check_origin(url.scheme, url.raw_host.decode("ascii"), url.port, policy)


@lru_cache(maxsize=1024)  # asked for every request
def _check_origin(scheme: str, host: str, port: int | None, policy: Policy) -> tuple[str, int]:
    if scheme not in ("http", "https") or not host:
        start = "http:// or https://" if policy.debug or policy.allowed else "https://"
        raise _invalid(f"Use a URL that starts with {start} and names a host.")
    port = (443 if scheme == "https" else 80) if port is None else port
    if not 0 < port < 65536:
        raise _invalid("The port must be between 1 and 65535.")
    address = parse_literal(host)
    if address is None and not _is_host_name(host.rstrip(".")):
        # Also 2130706433, 0x7f.1 and 0177.0.0.1: forms of IPv4 that only some resolvers understand.
        raise _invalid(f"{host} is not a host name or an IP address.")
    if address is not None:
        vet(host, [host], port, policy)
    elif _top_label(host) == "localhost" and not policy.debug:  # RFC 6761 §6.3: always loopback, no need to look it up
        raise ForbiddenAddress(_explain_refusal(host, Reach.LOOPBACK))
    if scheme == "http" and not policy.debug and not policy.lists(host, port):
        raise ForbiddenAddress(
            f"Use https:// for {host}. Plain http is only for hosts the operator lists in ASTER_ALLOWED_HOSTS_PRIVATE."
        )
    return host, port


def vet(host: str, addresses: Sequence[str], port: int, policy: Policy) -> list[str]:
    """The addresses to dial for `host`, ForbiddenAddress if a single one of them is refused.

    All or nothing: a name with one good and one bad answer is an attack, or a mistake that an attacker can steer.
    """
    host_is_listed = policy.lists(host, port)
    vetted = []
    for text in addresses:
        address = parse_address(text)
        if not policy.permits(address, port, host_is_listed=host_is_listed):
            raise ForbiddenAddress(_explain_refusal(host, classify(address)))
        vetted.append(str(address))
    return vetted


def check_url(
    url: str,
    *,
    resolve: bool = True,
    resolver: Resolver | None = None,
    policy: Policy | None = None,
    lookup_seconds: float = 5.0,
) -> None:
    """Refuse a URL that Aster would not dial, before it is stored.

    InvalidInput (code `invalid_url`) if malformed, ForbiddenAddress if refused. A name that does not resolve (within
    `lookup_seconds`) passes: it may do so later, and every dial asks again. `policy` None means the settings.
    """
    policy = policy or Policy.from_settings()
    host, port = check_target(parse_url(url), policy)
    if parse_literal(host) is not None:
        return
    addresses: Sequence[str] = []
    if resolve:
        # TimeoutError is an OSError; UnicodeError is how the idna codec refuses a name.
        with suppress(OSError, UnicodeError):
            addresses = start_lookup(resolver or resolve_with_system, host, port).result(lookup_seconds)
    vet(host, addresses, port, policy)
    _check_local_name(host, port, addresses, policy)


def _check_local_name(host: str, port: int, addresses: Sequence[str], policy: Policy) -> None:
    """A name of the local network must be vouched for: it is another machine wherever it is looked up next."""
    if _top_label(host) in ("local", "internal") and not policy.lists(host, port):
        reaches = {classify(parse_address(address)) for address in addresses}
        if not reaches or Reach.PUBLIC in reaches:  # What is private or loopback was judged by `vet` already.
            raise ForbiddenAddress(f"{host} is a name of the local network. {_ASK}")


def resolve_with_system(host: str, port: int) -> list[str]:
    return list(dict.fromkeys(str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))


def start_lookup(resolver: Resolver, host: str, port: int) -> Future[Sequence[str]]:
    """Look up in a thread of its own: getaddrinfo takes no timeout, and a slow name must not starve a shared pool."""
    future: Future[Sequence[str]] = Future()
    future.set_running_or_notify_cancel()  # From here on a cancelled waiter leaves the future alone.

    def look_up() -> None:
        try:
            future.set_result(resolver(host, port))
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=look_up, name="egress-lookup", daemon=True).start()
    return future


def _explain_refusal(host: str, reach: Reach) -> str:
    # The address behind a name is not told: it would let members map the operator's network through our errors.
    subject = f"{host} {'resolves to' if parse_literal(host) is None else 'is'} {reach.value}."
    match reach:
        case Reach.PRIVATE:
            return f"{subject} {_ASK}"
        case Reach.LOOPBACK:
            return f"{subject} Aster connects to its own machine only when DEBUG is on."
        case _:
            return f"{subject} Aster never connects there."


def _is_host_name(name: str) -> bool:
    """A DNS name that does not end in a number (a host that does is an IPv4 address to some parsers)."""
    labels = name.split(".")
    return len(name) <= 253 and all(map(_LABEL.fullmatch, labels)) and not _NUMBER.fullmatch(labels[-1])


def _top_label(host: str) -> str:
    return host.rstrip(".").rpartition(".")[2]


def _invalid(message: str) -> InvalidInput:
    return InvalidInput(message, code="invalid_url")
