"""Names do not resolve and nothing but this machine is dialled: an audit hook sees what any library does."""

from __future__ import annotations

import ipaddress
import socket
import sys
from typing import Any

LOCAL_NAMES = (None, "", "localhost")
dialled: list[str] = []  # what this process tried to reach elsewhere


def _is_loopback(host: Any) -> bool:
    text = host.decode("ascii", "replace") if isinstance(host, bytes) else host
    if text in LOCAL_NAMES:
        return True
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback or address.is_unspecified


def _is_literal(host: Any) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def stay_home(event: str, args: tuple[Any, ...]) -> None:
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        if not _is_loopback(args[0]) and not _is_literal(args[0]):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")  # as on a machine without a network
    elif event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = args[1]
        if isinstance(address, tuple) and not _is_loopback(address[0]):
            dialled.append(str(address[0]))
            raise PermissionError(f"Tests stay on loopback, not {address[0]}.")


sys.addaudithook(stay_home)
