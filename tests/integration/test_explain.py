"""Runs `adaptertune explain` over a real store, as a user would."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmark.tracking import StudyTracker, default_tracking_uri
from tuning.cli.app import run

from . import tracking_samples as samples

SPECS = [samples.trial_spec(seed=seed, rank=rank) for rank in (8, 16) for seed in (0, 1)]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("output")
    tracker = StudyTracker(default_tracking_uri(folder), "ranks", {"name": "ranks"}, samples.planned(*SPECS), "Why?")
    for position, spec in enumerate(SPECS):
        tracker.finish_trial(samples.completed(spec, 0.5 + 0.1 * position))
    return folder


def explain(output: Path, *arguments: str) -> int:
    return run(["explain", *arguments, "--output", str(output)])


def test_causes_are_ranked_when_two_trials_are_named(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(output, SPECS[0].trial_id, SPECS[3].trial_id, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert [one["field"] for one in document["differences"] if one["can_explain"]] == ["method.rank", "seed"]
    # 0.5 and 0.8.
    assert document["gap_mean"] == pytest.approx(-0.3)
    assert document["a"]["study"] == "ranks"


def test_conditions_are_compared_when_named_by_their_id(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(output, SPECS[0].condition_id, SPECS[2].condition_id) == 0
    shown = capsys.readouterr().out
    assert "AdapterTune r8" in shown
    assert "a − b: −20.00 points" in shown
    assert "One difference could explain the gap of −20.00 points: method.rank." in shown


def test_request_is_refused_when_a_run_is_unknown(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(output, SPECS[0].trial_id, SPECS[1].trial_id[:-1] + "x") == 2
    assert SPECS[1].trial_id in capsys.readouterr().err.replace("\n", "")


def test_request_is_refused_when_nothing_is_tracked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(tmp_path, "a", "b") == 2
    assert "no study is tracked there" in capsys.readouterr().err
