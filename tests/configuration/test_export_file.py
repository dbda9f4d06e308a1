"""Where an export is written, and what becomes of what is there."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.configuration.stage import export, mcp
from tests.conftest import Person

pytestmark = pytest.mark.django_db


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


def test_a_new_file_has_the_mode_of_any_new_file_and_an_old_one_keeps_its_own(alice: Person, tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    file = export(tmp_path)
    assert mode(file) == mode(tmp_path / "plain")
    file.chmod(0o640)
    mcp("export", file, "--yes")
    assert mode(file) == 0o640


def test_what_a_link_leads_to_is_overwritten_and_the_link_stays(alice: Person, tmp_path: Path) -> None:
    real, link = tmp_path / "real.yml", tmp_path / "link.yml"
    real.write_text("old")
    link.symlink_to(real)
    mcp("export", link, "--yes")
    assert link.is_symlink()
    assert "version: 1" in real.read_text()


def test_a_pipe_is_written_to_and_not_replaced(alice: Person, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(pipe.read_text)
        mcp("export", pipe, "--yes")
        assert stat.S_ISFIFO(pipe.stat().st_mode)
        assert "version: 1" in reading.result(20)


def test_standard_output_may_be_called_by_its_path(alice: Person) -> None:
    assert mcp("export", "/dev/stdout") == mcp("export", "-")
