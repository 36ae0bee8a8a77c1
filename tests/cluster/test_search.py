"""A search, its selection and its confirmation, as a user runs them: the confirmation alone reads the test split."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.study_command import ONE_AT_A_TIME, TRAINING, start_run

STUDY: dict[str, Any] = {
    "name": "tuned",
    "kind": "search",
    "backbone": "vit_nano",
    "dataset": "digits",
    "method": ["head_only", {"name": "adaptertune", "rank": [2, 4]}],
    "seed": 0,
    "training": TRAINING,
    "resources": ONE_AT_A_TIME,
    "search": {
        "by": "tpe",
        "settings": 2,
        "startup": 1,
        "at_once": 1,
        "space": {"training.learning_rate": [1e-4, 3e-3]},
    },
    "confirm": {"seed": [3, 4], "fit_on": "train_and_validation"},
    "claims": [{"id": "ahead", "text": "Ahead", "a": {"method": "adaptertune"}, "b": {"method": "head_only"}}],
}


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tuning", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search")
    (folder / "tuned.yaml").write_text(yaml.safe_dump(STUDY), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def searched(folder: Path) -> dict[str, Any]:
    text, messages = start_run(folder / "tuned.yaml", folder / "output").communicate(timeout=280)
    assert text, messages
    document: dict[str, Any] = json.loads(text)
    return document


@pytest.fixture(scope="module")
def locked(searched: dict[str, Any], folder: Path) -> dict[str, Any]:
    finished = command(folder, "lock", "tuned.yaml", "--out", "locked.yaml", "--output", "output", "--json")
    assert finished.returncode == 0, finished.stderr
    document: dict[str, Any] = json.loads(finished.stdout)
    return document


@pytest.fixture(scope="module")
def confirmed(locked: dict[str, Any], folder: Path) -> dict[str, Any]:
    finished = command(folder, "confirm", "tuned.yaml", "--locked", "locked.yaml", "--output", "output", "--json")
    assert finished.returncode == 0, finished.stderr
    document: dict[str, Any] = json.loads(finished.stdout)
    return document


def test_search_completes_without_a_test_read(searched: dict[str, Any]) -> None:
    assert list(searched["statuses"].values()) == ["COMPLETED"] * 4
    assert searched["summary"]["test_reads"] == []
    assert searched["summary"]["claims"] == []
    assert {condition["test_top1_mean"] for condition in searched["summary"]["conditions"]} == {None}


def test_best_validation_score_of_every_method_is_locked(searched: dict[str, Any], locked: dict[str, Any]) -> None:
    scores: dict[str, list[float]] = {}
    for condition in searched["summary"]["conditions"]:
        scores.setdefault(condition["method"], []).append(condition["validation_top1_mean"])
    best = [max(numbers) for numbers in scores.values()]
    assert [selected["validation_top1_mean"] for selected in locked["selections"]] == pytest.approx(best)


def test_confirmation_reads_the_test_split_once_a_trial_and_says_after_which_selection(
    locked: dict[str, Any], confirmed: dict[str, Any], folder: Path
) -> None:
    reads = confirmed["summary"]["test_reads"]
    assert sorted(read["seed"] for read in reads) == [3, 3, 4, 4]
    assert min(read["read_at"] for read in reads) >= locked["locked_at"]
    assert {claim["id"] for claim in confirmed["summary"]["claims"]} == {"ahead"}
    page = (folder / confirmed["report"]).read_text(encoding="utf-8")
    assert f"tuned, locked {locked['locked_at']}" in page
    assert locked["sha256"][:12] in page


def test_last_epoch_is_tested_when_validation_is_trained_on(confirmed: dict[str, Any]) -> None:
    assert {read["selected_epoch"] for read in confirmed["summary"]["test_reads"]} == {TRAINING["epochs"]}


def test_nothing_runs_again_when_the_search_or_the_confirmation_is_asked_for_again(
    confirmed: dict[str, Any], folder: Path
) -> None:
    for arguments in (("run", "tuned.yaml"), ("confirm", "tuned.yaml", "--locked", "locked.yaml")):
        finished = command(folder, *arguments, "--output", "output", "--json")
        assert (finished.returncode, json.loads(finished.stdout)["num_run"]) == (0, 0)


def test_selection_is_refused_when_the_study_is_no_search(folder: Path) -> None:
    finished = command(folder, "confirm", "demo", "--locked", "locked.yaml", "--output", "output")
    assert finished.returncode == 2
    assert "only a search has a selection to confirm" in finished.stderr


@pytest.mark.slow
def test_setting_that_falls_behind_is_given_up_and_never_selected(tmp_path: Path) -> None:
    rates = [3e-3, 1e-6, 1e-7]
    change = {
        "name": "halved",
        "method": {"name": "adaptertune", "rank": 2},
        "training": {**TRAINING, "epochs": 4, "global_batch_images": 64, "warmup_epochs": 0},
        "search": {
            "by": "grid",
            "space": {"training.learning_rate": rates},
            "early_stopping": {"grace_epochs": 2, "reduction_factor": 2},
        },
        "claims": [],
    }
    (tmp_path / "halved.yaml").write_text(yaml.safe_dump({**STUDY, **change}), encoding="utf-8")
    process = start_run(tmp_path / "halved.yaml", tmp_path / "output")
    text, messages = process.communicate(timeout=280)
    assert process.returncode == 0, messages
    statuses = list(json.loads(text)["statuses"].values())
    assert statuses[0] == "COMPLETED"
    assert "PRUNED" in statuses[1:]
    finished = command(tmp_path, "lock", "halved.yaml", "--out", "locked.yaml", "--output", "output", "--json")
    (selected,) = json.loads(finished.stdout)["selections"]
    assert selected["values"] == {"training.learning_rate": rates[0]}
    assert (selected["num_settings"], selected["num_scored"]) == (3, statuses.count("COMPLETED"))
