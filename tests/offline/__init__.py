"""Import this, and the process and every Python process it starts stay on loopback."""

from __future__ import annotations

import os
from pathlib import Path

from tests.offline.sitecustomize import dialled

__all__ = ["dialled"]

# A Python that starts looks for a module of the name `sitecustomize`.
os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
