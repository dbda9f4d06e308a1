"""The environment of the tests. Loaded as a plugin (`-p tests.environment`), so that it is set before Django starts."""

from __future__ import annotations

import atexit
import os
import socket
import tempfile

import tests.offline  # noqa: F401  this process and its children stay on loopback

# A data directory of our own, loopback allowed, no worker inside the test process, and
# a port that is ours from the start, so that the public URL is true.
# With the protocol named, asyncio turns Nagle off for accepted connections; without, every answer waits 40 ms.
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", 0))
atexit.register(listener.close)
_port = listener.getsockname()[1]
os.environ["ASTER_DATA_DIR"] = tempfile.mkdtemp(prefix="aster-tests-")
os.environ["ASTER_PUBLIC_URL"] = f"http://127.0.0.1:{_port}"
os.environ["DEBUG"] = "1"
os.environ["ASTER_EMBEDDED_WORKER"] = "0"
# What a test looks for has to be there when the call has been answered.
os.environ["ASTER_CALLS_WRITTEN_THROUGH"] = "1"
os.environ["ASTER_REGISTRIES"] = ""
for _name in ("ASTER_STDIO_COMMANDS", "ASTER_ENV_VARS", "ASTER_ALLOWED_HOSTS_PRIVATE", "REDIS_URL", "PORT"):
    os.environ.pop(_name, None)
# Playwright's sync API leaves an event loop running in the test's thread.
os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
