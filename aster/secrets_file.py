"""Secrets of a one-machine installation: made on the first start, kept in the data directory, readable by its owner."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from pathlib import Path


def load_or_create(path: Path) -> dict[str, str]:
    """Return the secrets stored at `path`, creating them once.

    Safe when several processes start at the same moment: the file appears complete or not at all (`os.link` fails if
    another process was first), and the loser reads the winner's.
    """
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = {"SECRET_KEY": secrets.token_urlsafe(50), "ASTER_ENCRYPTION_KEYS": secrets.token_urlsafe(32)}
        descriptor, draft_name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
        draft = Path(draft_name)
        with os.fdopen(descriptor, "w") as file:
            json.dump(fresh, file)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    stored: dict[str, str] = json.loads(path.read_text())
    return stored
