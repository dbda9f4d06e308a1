"""The demo world as one thing to start and stop: provider, notes, weather and a scripted model on one loopback port."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aster.demo.records import DEMO_PEOPLE, Person

if TYPE_CHECKING:
    import socket

    from starlette.applications import Starlette

    from aster.demo.authorization_server import AuthorizationServer
    from aster.demo.serving import ServerThread

LOOPBACK_HOSTS = ("127.0.0.1", "localhost")


class DemoWorld:
    """A sign-in provider ("Acme ID"), a protected MCP server (Acme Notes), an open one (Acme Weather), and a scripted
    model for chats.

    host: loopback only, since nobody needs a password here (ValueError otherwise). port: 0 takes a free one at once,
    so that `issuer` and the URLs are known before `start`. state_path: file that lets connections survive a restart.
    access_token_seconds: short, so that refreshing can be watched. word_seconds: how fast the scripted model speaks.
    """

    def __init__(
        self,
        *,
        port: int,
        people: Sequence[Person] = DEMO_PEOPLE,
        host: str = "127.0.0.1",
        state_path: Path | None = None,
        access_token_seconds: float = 120,
        word_seconds: float = 0.03,
    ) -> None:
        if host not in LOOPBACK_HOSTS:
            raise ValueError(f"The demo world has no passwords: serve it on {' or '.join(LOOPBACK_HOSTS)} only.")
        if not people:
            raise ValueError("The demo world needs at least one person who can sign in.")
        self.host = host
        self.people = tuple(people)
        self.state_path = state_path
        self.access_token_seconds = access_token_seconds
        self.word_seconds = word_seconds
        self._socket: socket.socket | None = None
        self._thread: ServerThread | None = None
        self._authorization_server: AuthorizationServer | None = None
        self.port = port or self._take_free_port()

    @property
    def issuer(self) -> str:
        """The provider's issuer, which is also the root of the world."""
        return f"http://{self.host}:{self.port}"

    @property
    def notes_url(self) -> str:
        """The protected MCP server."""
        return f"{self.issuer}/notes/mcp"

    @property
    def weather_url(self) -> str:
        """The open MCP server."""
        return f"{self.issuer}/weather/mcp"

    @property
    def model_url(self) -> str:
        """The base URL of the scripted model, which speaks the OpenAI protocol."""
        return f"{self.issuer}/model/v1"

    @property
    def authorization_server(self) -> AuthorizationServer:
        """The provider with its logs and switches. Raises RuntimeError before the first `start`."""
        if self._authorization_server is None:
            raise RuntimeError("Start the demo world first.")
        return self._authorization_server

    def start(self) -> None:
        """Serve, and return once requests are accepted. Raises OSError if the port is taken. Starting twice is fine."""
        from aster.demo.serving import ServerThread, bind_port

        if self._thread is not None:
            return
        bound = self._socket or bind_port(self.host, self.port)
        self._socket = None
        thread = ServerThread(self._build_app(), bound)
        thread.start()
        self._thread = thread

    def stop(self) -> None:
        """Stop serving within about two seconds and free the port; a later `start` uses the same port again."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._thread is not None:
            self._thread.stop()
            self._thread = None

    def _take_free_port(self) -> int:
        from aster.demo.serving import bind_port

        self._socket = bind_port(self.host, 0)
        port: int = self._socket.getsockname()[1]
        return port

    def _build_app(self) -> Starlette:
        from aster.demo.application import create_application
        from aster.demo.authorization_server import AuthorizationServer

        self._authorization_server = AuthorizationServer(
            self.issuer,
            people=self.people,
            access_token_seconds=self.access_token_seconds,
            require_resource=self.notes_url,
            state_path=self.state_path,
        )
        return create_application(
            self._authorization_server,
            notes_url=self.notes_url,
            weather_url=self.weather_url,
            model_url=self.model_url,
            word_seconds=self.word_seconds,
        )
