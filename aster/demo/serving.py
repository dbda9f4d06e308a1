"""An ASGI application on a loopback port, served from a thread of this process."""

from __future__ import annotations

import errno
import socket
import threading
from typing import Any

import uvicorn

START_SECONDS = 10.0
STOP_SECONDS = 2.0


def bind_port(host: str, port: int) -> socket.socket:
    """Return a socket bound to host and port (0 = any free one), not listening yet. An OSError says why not."""
    # With the protocol named, asyncio turns Nagle off for accepted connections; without, every answer waits 40 ms.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        taken = error.errno == errno.EADDRINUSE
        reason = "is in use by another program" if taken else f"cannot be used ({error.strerror or error})"
        raise OSError(error.errno, f"{host}:{port} {reason}.") from None
    return bound


class ServerThread:
    """uvicorn in a daemon thread on a socket that is already bound."""

    def __init__(self, app: Any, bound: socket.socket) -> None:
        config = uvicorn.Config(
            app, log_config=None, log_level="warning", access_log=False, ws="none", timeout_graceful_shutdown=1
        )
        self._server = _AnnouncingServer(config)
        self._socket = bound
        self._thread = threading.Thread(target=self._run, name="aster-demo", daemon=True)

    def start(self) -> None:
        """Return once requests are accepted. Raises RuntimeError if the application does not start."""
        self._thread.start()
        if not self._server.settled.wait(START_SECONDS) or not self._server.started:
            self.stop()
            raise RuntimeError("The demo world did not start; the log says why.")

    def stop(self) -> None:
        """Stop serving and free the port, open streams included; returns within about two seconds."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)
        self._socket.close()

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._server.settled.set()


class _AnnouncingServer(uvicorn.Server):
    """uvicorn only sets a flag when it is up; waiting for an Event needs no polling."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.settled = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.settled.set()
