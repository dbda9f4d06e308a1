"""How a run of the conformance suite is judged; the run itself is `make conformance`."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from conformance.gateway import NOTHING_SENT, read_server_outcome
from conformance.run import NOTHING_PROVEN, SCRIPT_ENDED_WRONG, Excuse, Outcome, judge, read_outcome

PASSED = {"id": "a", "status": "SUCCESS", "description": "a"}
SKIPPED = {**PASSED, "status": "SKIPPED"}
WARNED = {"id": "b", "status": "WARNING", "description": "b"}


def _outcome(tmp_path: Path, checks: list[dict[str, str]], script: str, refusal: str | None = None) -> Outcome:
    written = tmp_path / "scenario-2026"
    written.mkdir()
    (written / "checks.json").write_text(json.dumps(checks))
    (written / "stdout.txt").write_text(script)
    return read_outcome("scenario", tmp_path, refusal)


@pytest.mark.parametrize(
    ("checks", "script", "refusal", "failures"),
    [
        ([PASSED], "sent\nfinished\n", None, set()),
        ([PASSED, WARNED], "finished\n", None, {"b"}),
        ([SKIPPED], "finished\n", None, {NOTHING_PROVEN}),
        ([], "finished\n", None, {NOTHING_PROVEN}),
        ([PASSED], "", None, {SCRIPT_ENDED_WRONG}),
        ([PASSED], "refused: no: No.\n", None, {SCRIPT_ENDED_WRONG}),
        ([PASSED], "refused: no: No.\n", "no", set()),
        ([PASSED], "refused: other: No.\n", "no", {SCRIPT_ENDED_WRONG}),
        ([PASSED], "finished\n", "no", {SCRIPT_ENDED_WRONG}),
    ],
)
def test_only_a_scenario_that_proved_something_and_ended_well_is_green(
    tmp_path: Path, checks: list[dict[str, str]], script: str, refusal: str | None, failures: set[str]
) -> None:
    assert _outcome(tmp_path, checks, script, refusal).failures == failures


@pytest.mark.parametrize(
    ("checks", "sent", "failures"),
    [
        ([PASSED], 1, set()),
        ([PASSED], 0, {NOTHING_SENT}),
        ([PASSED, WARNED], 1, {"b"}),
        ([SKIPPED], 1, {NOTHING_PROVEN}),
        ([], 0, {NOTHING_PROVEN, NOTHING_SENT}),
    ],
)
def test_a_server_scenario_is_green_only_if_it_sent_and_proved_something(
    tmp_path: Path, checks: list[dict[str, str]], sent: int, failures: set[str]
) -> None:
    (tmp_path / "checks.json").write_text(json.dumps(checks))
    assert read_server_outcome("scenario", tmp_path, sent).failures == failures


def test_a_scenario_that_left_no_results_is_not_green(tmp_path: Path) -> None:
    assert read_outcome("scenario", tmp_path, None).failures == {NOTHING_PROVEN, SCRIPT_ENDED_WRONG}


@pytest.mark.parametrize(
    ("failures", "excused", "unsteady", "good"),
    [
        (set(), None, False, True),
        ({"a"}, None, False, False),
        ({"a"}, {"a"}, False, True),
        ({"a", "b"}, {"a"}, False, False),
        ({"a"}, {"a", "b"}, False, False),
        (set(), {"a"}, False, False),
        (set(), {"a"}, True, True),
        ({"a"}, {"a", "b"}, True, True),
        ({"c"}, {"a", "b"}, True, False),
    ],
)
def test_an_exception_covers_its_checks_only_and_only_while_they_fail(
    failures: set[str], excused: set[str] | None, unsteady: bool, good: bool
) -> None:
    excuse = Excuse("scenario", "version", frozenset(excused), "reason", unsteady) if excused else None
    assert judge(Outcome("scenario", Counter(), frozenset(failures)), excuse)[0] is good
