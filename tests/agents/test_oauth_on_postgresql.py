"""Sign-in of apps on PostgreSQL, where two requests really run at the same moment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.databases import MakeDatabase, environment_of_children, postgresql

__all__ = ["postgresql"]

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]
HERE = Path(__file__)
# What a database decides; the rest is the same on any.
ONLY = "moment or digests or queries or removed or late"


@pytest.mark.skipif(os.environ.get("DATABASE_URL", "").startswith("postgres"), reason="this is the run on PostgreSQL")
@pytest.mark.timeout(240)
def test_apps_sign_in_and_refresh_on_postgresql(postgresql: MakeDatabase) -> None:
    files = [str(HERE.with_name(f"test_{name}.py")) for name in ("oauth_tokens",)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", ONLY, *files],
        env=environment_of_children(DATABASE_URL=postgresql("oauth")),
        cwd=HERE.parents[2],
        capture_output=True,
        text=True,
        timeout=230,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
