"""A network of one's own: what runs there reaches nobody, and nobody reaches it."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys

ISOLATED = "ASTER_CONFORMANCE_ISOLATED"


def isolate(module: str) -> bool:
    """Start `module` again in a network namespace where the system lets us; False if it does not.

    The suite's fake servers listen on every interface, and clients like to look for their updates.
    """
    if os.environ.get(ISOLATED):
        _raise_loopback()
        return True
    for unshare in (["unshare", "--net"], ["unshare", "--net", "--map-root-user"]):
        if _works([*unshare, "true"]):
            command = [*unshare, sys.executable, "-m", module, *sys.argv[1:]]
            os.execvpe(command[0], command, {**os.environ, ISOLATED: "1"})
    return False


def _works(command: list[str]) -> bool:
    return bool(shutil.which(command[0])) and not subprocess.run(command, capture_output=True, check=False).returncode


def _raise_loopback() -> None:
    """`ip link set lo up`, without needing `ip`."""
    get_flags, set_flags, up = 0x8913, 0x8914, 0x1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        asked = fcntl.ioctl(control, get_flags, struct.pack("16sH14x", b"lo", 0))
        flags = struct.unpack("16sH14x", asked)[1]
        fcntl.ioctl(control, set_flags, struct.pack("16sH14x", b"lo", flags | up))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
