"""A store that an earlier version wrote is read, reported and explained by this one.

`data/older_store.tar.xz` holds the tables and JSON files of a study run at commit 3b4857b, the first whose `run` was
whole; its tensors and predictions are left out.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import tarfile
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import pytest

from benchmark.tracking import default_tracking_uri, list_studies, read_study
from tuning.cli.app import run
from tuning.run_study import RunSettings, write_report

STUDY = "from-an-older-version"


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("older")
    with tarfile.open(Path(__file__).parent / "data" / "older_store.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as store:
        store.executescript((folder / "store.sql").read_text())
        ((schema,),) = store.execute("SELECT version_num FROM alembic_version")
    migrations = files("mlflow") / "store" / "db_migrations" / "versions"
    if not any(migration.name.startswith(schema) for migration in migrations.iterdir()):
        pytest.skip(f"MLflow {version('mlflow')} is older than the one that wrote this store")
    return folder


def test_study_is_reported_when_an_older_version_tracked_it(output: Path) -> None:
    uri = default_tracking_uri(output)
    assert list_studies(uri) == [STUDY]
    assert "defaults" not in read_study(uri, STUDY).planned[0].spec["method"]  # a field that came later
    summary = write_report(STUDY, RunSettings(output, uri, strict=True)).summary
    assert summary["statuses"] == {"COMPLETED": 6}
    assert [condition["num_seeds"] for condition in summary["conditions"]] == [2, 2, 2]
    assert [claim["verdict"] for claim in summary["claims"]] == ["undecided"]
    assert summary["elbow"][0]["ranks"] == [2, 4]
    assert len(summary["test_reads"]) == 6


def test_files_that_are_gone_are_said_to_be_gone_when_reported(output: Path) -> None:
    summary = write_report(STUDY, RunSettings(output, default_tracking_uri(output))).summary
    reasons = [one["reason"] for one in summary["combinations"] + summary["images"]]
    assert all("cannot be read" in reason for reason in reasons)


def test_runs_are_explained_when_an_older_version_tracked_them(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (
        trial.result.condition_id for trial in read_study(default_tracking_uri(output), STUDY).trials[2::2]
    )
    assert run(["explain", first, second, "--output", str(output), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [one["field"] for one in document["differences"] if one["can_explain"]] == ["method.rank"]


@pytest.mark.slow
def test_trials_of_a_later_revision_join_the_older_ones_when_the_study_is_run_again(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "again"
    shutil.copytree(output, folder)
    before = {trial.result.trial_id: trial.result for trial in read_study(default_tracking_uri(folder), STUDY).trials}
    (written,) = folder.glob("mlartifacts/*/*/artifacts/study.json")
    study = tmp_path / "study.yaml"
    study.write_text(written.read_text(), encoding="utf-8")  # JSON is YAML
    assert run(["run", str(study), "--output", str(folder), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    # `fair` was revised since: its trials are others, and the earlier ones stay as they are.
    assert set(document["statuses"].values()) == {"COMPLETED"} and not set(document["statuses"]) & set(before)
    after = {trial.result.trial_id: trial.result for trial in read_study(default_tracking_uri(folder), STUDY).trials}
    assert {trial_id: after[trial_id] for trial_id in before} == before
    assert set(after) == set(before) | set(document["statuses"])
