"""Reports and explanations from an MLflow server instead of a local database, small studies and two thousand runs."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark.tracking import StudyTracker, create_store, default_tracking_uri, read_study
from benchmark.tracking.store import open_client
from tests.performance.scale import copy_run
from tests.ports import free_port
from tuning.cli.app import run
from tuning.run_study import RunSettings, write_report

from . import tracking_samples as samples

SPECS = [samples.trial_spec(seed=seed, rank=rank) for rank in (8, 16) for seed in (0, 1)]
MANY = [samples.trial_spec(seed=seed) for seed in range(2001)]
START_TIMEOUT_SECONDS = 120


def await_health(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError, urllib.error.URLError):
            urllib.request.urlopen(f"{address}/health", timeout=5).close()
            return
        time.sleep(0.5)
    raise RuntimeError("the MLflow server did not start")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    import psutil

    uri = default_tracking_uri(folder)
    create_store(uri)
    address = f"http://127.0.0.1:{free_port()}"
    options = ["--host", "127.0.0.1", "--port", address.rpartition(":")[2], "--workers", "1"]
    places = ["--backend-store-uri", uri, "--artifacts-destination", str(folder / "artifacts")]
    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [sys.executable, "-m", "mlflow", "server", *options, *places]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, **settings}, start_new_session=True
        )
    try:
        await_health(address, process)
        tracker = StudyTracker(address, "ranks", {"name": "ranks"}, samples.planned(*SPECS), "Why?")
        for position, spec in enumerate(SPECS):
            tracker.finish_trial(samples.completed(spec, 0.5 + 0.1 * position))
        yield address
    finally:
        family = [*psutil.Process(process.pid).children(recursive=True), process]
        for one in family:
            with contextlib.suppress(psutil.Error):
                one.kill()
        process.wait()


def fill_with_many(database: Path, address: str) -> None:
    """Track one trial and copy its rows: to write two thousand runs through MLflow takes a quarter of an hour."""
    tracker = StudyTracker(address, "many", {"name": "many"}, samples.planned(*MANY))
    tracker.finish_trial(samples.completed(MANY[0]))
    query = "SELECT runs.run_uuid FROM runs JOIN tags USING (run_uuid) WHERE experiment_id = ? AND key = 'trial_id'"
    with contextlib.closing(sqlite3.connect(database)) as store, store:
        ((run_id,),) = store.execute(query, (int(tracker.experiment_id),)).fetchall()
        for spec in MANY[1:]:
            copy_run(store, run_id, spec, samples.completed(spec))


def test_explanation_is_the_same_when_the_store_is_a_server(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["explain", SPECS[0].condition_id, SPECS[2].condition_id, "--tracking-uri", server, "--json"]
    assert run([*arguments, "--study", "ranks"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [one["field"] for one in document["differences"] if one["can_explain"]] == ["method.rank"]
    # 0.5 and 0.6 against 0.7 and 0.8.
    assert document["gap_mean"] == pytest.approx(-0.2)
    assert document["a"]["study"] == "ranks"


def test_report_links_to_the_server_and_lies_beside_the_study_when_written(server: str, tmp_path: Path) -> None:
    report = write_report("ranks", RunSettings(tmp_path, server))
    page = report.index.read_text()
    assert f'data-address="{server}/#/experiments/' in page
    assert [one["num_members"] for one in report.summary["combinations"]] == [2, 2]
    files = open_client(server).list_artifacts(report.summary["run_id"], "report")
    assert {"report/index.html", "report/summary.json", "report/tables"} <= {file.path for file in files}


@pytest.mark.slow
def test_every_run_is_read_when_there_are_two_thousand(server: str, folder: Path, tmp_path: Path) -> None:
    fill_with_many(folder / "mlflow.db", server)
    record = read_study(server, "many")
    assert len({trial.result.trial_id for trial in record.trials}) == len(MANY)
    report = write_report("many", RunSettings(tmp_path, server))
    assert report.summary["statuses"] == {"COMPLETED": len(MANY)}
    assert report.summary["conditions"][0]["num_seeds"] == len(MANY)
    assert report.index.stat().st_size < 5_000_000
