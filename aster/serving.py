"""How a process serves Aster: what `manage.py serve` runs, and what the benchmarks measure."""

from __future__ import annotations

import gc
import socket
from typing import Any

import uvicorn

# Hardly anything that a request leaves behind is a cycle; looking for them after every 700 objects costs 5 % of a call.
_YOUNG_OBJECTS = 10_000


def serve(listener: socket.socket, **options: Any) -> None:
    """Serve on a socket that is bound, until the process is told to stop. `options` are uvicorn's."""
    config = uvicorn.Config(
        "aster.asgi:application",
        lifespan="on",
        access_log=False,
        server_header=False,
        # Which proxies are believed is Django's to say (ASTER_BEHIND_PROXY).
        proxy_headers=False,
        **options,
    )
    config.load()
    # What is there at the start stays: the collector need not look through it again and again.
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, *gc.get_threshold()[1:])
    uvicorn.Server(config).run(sockets=[listener])
