"""Guards that a run whose hours are spent says so, and that the same command goes on from there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cluster.study_command import ONE_AT_A_TIME, start_run, write_study

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_run_ends_resumably_when_its_hours_are_spent(tmp_path: Path) -> None:
    study = write_study(tmp_path, "spent", ["head_only"], [0, 1], resources=ONE_AT_A_TIME)
    process = start_run(study, tmp_path / "output", "--max-hours", "0")
    text, messages = process.communicate(timeout=300)
    assert process.returncode == 130, messages
    document = json.loads(text)
    assert (document["stopped_by"], document["num_run"], document["statuses"]) == ("--max-hours 0", 0, {})
    process = start_run(study, tmp_path / "output", "--max-hours", "1")
    text, messages = process.communicate(timeout=300)
    assert process.returncode == 0, messages
    assert json.loads(text)["num_run"] == 2
