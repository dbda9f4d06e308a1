"""The tests themselves: nothing they start talks to another machine."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from tests.offline import dialled

ASK = "import socket; socket.getaddrinfo('example.com', 443)"
DIAL = "import socket; socket.create_connection(('192.0.2.1', 9), timeout=1)"


def test_names_do_not_resolve() -> None:
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo("example.com", 443)
    assert socket.getaddrinfo("localhost", 80)


def test_other_machines_are_not_dialled_and_the_test_that_tries_fails() -> None:
    with pytest.raises(PermissionError, match="loopback"):
        socket.create_connection(("192.0.2.1", 9), timeout=1)
    assert dialled == ["192.0.2.1"]
    dialled.clear()


@pytest.mark.parametrize(("script", "error"), [(ASK, "gaierror"), (DIAL, "PermissionError")])
def test_children_stay_at_home_too(script: str, error: str) -> None:
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert error in child.stderr
