"""A server that says what it is told to, byte by byte: for what no well-behaved one would say."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Talk = Callable[[socket.socket, int], None]


class ByteServer:
    """`talk` gets each connection in a thread of its own, and its number; what it raises ends the connection."""

    def __init__(self, talk: Talk, tls: ssl.SSLContext | None = None) -> None:
        self.accepted = 0
        self.open: set[socket.socket] = set()
        self.left = threading.Semaphore(0)  # one for each connection that has ended
        self._talk, self._tls = talk, tls
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}/mcp"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                conn, _ = self._socket.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._serve, args=(conn, self.accepted), daemon=True).start()

    def _serve(self, raw: socket.socket, number: int) -> None:
        raw.settimeout(10)
        with suppress(OSError), self._tls.wrap_socket(raw, server_side=True) if self._tls else raw as conn:
            self.open.add(conn)
            with suppress(OSError):
                self._talk(conn, number)
            self.open.discard(conn)
        self.left.release()

    def stop(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@contextmanager
def byte_server(talk: Talk, tls: ssl.SSLContext | None = None) -> Iterator[ByteServer]:
    server = ByteServer(talk, tls)
    try:
        yield server
    finally:
        server.stop()


def read_request(conn: socket.socket) -> bytes:
    """One whole request; OSError once there is none."""
    read = b""
    while b"\r\n\r\n" not in read:
        if not (piece := conn.recv(65536)):
            raise ConnectionResetError
        read += piece
    head, _, body = read.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += conn.recv(65536)
    return head + b"\r\n\r\n" + body


def saying(*answers: bytes) -> Talk:
    """Answers each request with the next of `answers`, the last one again and again."""

    def talk(conn: socket.socket, number: int) -> None:
        for answer in answers[:-1]:
            read_request(conn)
            conn.sendall(answer)
        while True:
            read_request(conn)
            conn.sendall(answers[-1])

    return talk


def await_end(conn: socket.socket) -> None:
    """Until the other side has closed the connection."""
    with suppress(ConnectionResetError):
        while conn.recv(65536):
            pass
