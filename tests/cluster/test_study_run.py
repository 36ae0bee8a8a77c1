"""A whole study from one command: Ray, DeepSpeed and MLflow as a user has them, nothing replaced."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmark.tracking import default_tracking_uri
from tests.cluster.study_command import ONE_AT_A_TIME, start_run, write_study
from tuning.ledger import Ledger

METHODS = ["head_only", {"name": "adaptertune", "rank": 2}]
DIVERGING = {"name": "full_finetune", "learning_rate": 1e30, "gradient_clip_norm": None}


@dataclass(frozen=True)
class Finished:
    """What one run of the command left."""

    exit_status: int
    document: dict[str, Any]
    messages: str
    mlflow_runs: list[Any]
    started_at: dict[str, str | None]


def run(study: Path, output: Path, *options: str) -> Finished:
    process = start_run(study, output, *options)
    text, messages = process.communicate(timeout=280)
    document = json.loads(text)
    ledger = Ledger(output)
    entries = ledger.entries(list(document["statuses"]))
    ledger.close()
    started_at = {trial_id: entry.started_at for trial_id, entry in entries.items()}
    return Finished(process.returncode, document, messages, mlflow_runs(output, document["study"]), started_at)


def mlflow_runs(output: Path, study_name: str) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(default_tracking_uri(output))
    experiment = client.get_experiment_by_name(f"adaptertune/{study_name}")
    return list(client.search_runs([experiment.experiment_id]))


def run_ids(finished: Finished) -> set[str]:
    return {one.info.run_id for one in finished.mlflow_runs}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def study(folder: Path) -> Path:
    return write_study(folder, "tiny", METHODS, [0, 1], resources=ONE_AT_A_TIME)


@pytest.fixture(scope="module")
def first(study: Path, folder: Path) -> Finished:
    return run(study, folder / "output")


@pytest.fixture(scope="module")
def second(first: Finished, study: Path, folder: Path) -> Finished:
    return run(study, folder / "output")


@pytest.fixture(scope="module")
def extended(second: Finished, study: Path, folder: Path) -> Finished:
    return run(study, folder / "output", "--set", "seed=[0,1,2]")


@pytest.fixture(scope="module")
def diverged(folder: Path) -> Finished:
    study = write_study(folder, "diverging", [DIVERGING, "head_only"], [7], resources=ONE_AT_A_TIME)
    return run(study, folder / "output-diverging")


def test_every_condition_has_its_seeds_when_a_study_has_run(first: Finished) -> None:
    assert first.exit_status == 0, first.messages
    assert (first.document["num_trials"], first.document["num_run"]) == (4, 4)
    assert set(first.document["statuses"].values()) == {"COMPLETED"}
    seeds = {row["method"]: row["seeds"] for row in first.document["summary"]["conditions"]}
    assert seeds == {"head_only": [0, 1], "adaptertune": [0, 1]}
    assert first.document["reasons"] == {} and first.document["not_tracked"] == []


def test_messages_go_to_stderr_when_json_is_asked_for(first: Finished) -> None:
    # That stdout is one JSON document and nothing else is shown by its being parsed whole.
    assert "4 of 4 done" in first.messages
    assert "Traceback" not in first.messages


def test_tracking_holds_one_parent_and_a_nested_run_a_trial_when_a_study_has_run(first: Finished) -> None:
    (parent,) = [one for one in first.mlflow_runs if "mlflow.parentRunId" not in one.data.tags]
    nested = [one for one in first.mlflow_runs if one is not parent]
    assert {one.data.tags["mlflow.parentRunId"] for one in nested} == {parent.info.run_id}
    assert sorted(one.data.tags["trial_id"] for one in nested) == sorted(first.document["statuses"])
    assert all(0.0 <= one.data.metrics["test_top1"] <= 1.0 for one in nested)


def test_report_is_written_when_a_study_has_run(first: Finished) -> None:
    index = Path(first.document["report"])
    assert {path.name for path in index.parent.iterdir()} >= {"index.html", "summary.json", "trials.csv", "report.md"}
    with (index.parent / "trials.csv").open(newline="") as file:
        rows = {row["trial_id"]: float(row["test_top1"]) for row in csv.DictReader(file)}
    assert set(rows) >= set(first.document["statuses"])


def test_nothing_runs_when_a_study_is_run_again(first: Finished, second: Finished) -> None:
    assert second.exit_status == 0, second.messages
    assert second.document["num_run"] == 0
    assert second.started_at == first.started_at
    assert run_ids(second) == run_ids(first)
    assert second.document["summary"]["conditions"] == first.document["summary"]["conditions"]


def test_only_new_seeds_run_when_seeds_are_added(first: Finished, extended: Finished) -> None:
    assert extended.exit_status == 0, extended.messages
    assert (extended.document["num_trials"], extended.document["num_run"]) == (6, 2)
    assert first.started_at.items() <= extended.started_at.items()
    assert run_ids(first) < run_ids(extended)
    assert len(extended.mlflow_runs) == 1 + 6
    assert {tuple(row["seeds"]) for row in extended.document["summary"]["conditions"]} == {(0, 1, 2)}


@pytest.mark.slow
def test_diverged_trial_is_stored_with_its_reason_when_the_others_complete(diverged: Finished) -> None:
    assert diverged.exit_status == 1, diverged.messages
    assert sorted(diverged.document["statuses"].values()) == ["COMPLETED", "DIVERGED"]
    (trial_id,) = diverged.document["reasons"]
    assert diverged.document["statuses"][trial_id] == "DIVERGED"
    assert "loss" in diverged.document["reasons"][trial_id]
    (nested,) = [one for one in diverged.mlflow_runs if one.data.tags.get("trial_id") == trial_id]
    assert nested.info.status == "FAILED"
    assert nested.data.tags["reason"] == diverged.document["reasons"][trial_id]


@pytest.mark.slow
def test_report_names_the_diverged_trial_when_it_is_written(diverged: Finished) -> None:
    assert diverged.document["summary"]["statuses"]["DIVERGED"] == 1
    (missing,) = diverged.document["summary"]["missing"]
    page = Path(diverged.document["report"]).read_text(encoding="utf-8")
    reason = next(iter(diverged.document["reasons"].values()))
    assert missing["status"] == "DIVERGED" and missing["seed"] == 7
    assert missing["reason"] == reason
    # A page names methods by their titles.
    assert "DIVERGED" in page and "Full fine-tuning" in page and reason in page
