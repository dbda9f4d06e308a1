from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(autouse=True)
def _production_rules(settings: Any) -> None:
    """Public https only, whatever the environment of the test run says."""
    settings.DEBUG = False
    settings.ASTER_ALLOWED_HOSTS_PRIVATE = []
