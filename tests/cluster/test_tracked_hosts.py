"""A study over two hosts, tracked by a server on PostgreSQL that both reach; PostgreSQL is restarted meanwhile."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmark.tracking import ui_environment
from tests.cluster.hosts import GCS_PORT, Host, last_epoch, linked_hosts, wait_until, why_not_here
from tests.cluster.study_command import write_study
from tests.postgres_server import PROGRAMS, postgres
from tuning.ledger import Ledger
from tuning.study import load_study

NOT_HERE = why_not_here()
WITHOUT = [name for name in ("psycopg2",) if importlib.util.find_spec(name) is None]
WITHOUT += [] if PROGRAMS else ["PostgreSQL"]
pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(900),
    pytest.mark.skipif(NOT_HERE is not None, reason=NOT_HERE or ""),
    pytest.mark.skipif(bool(WITHOUT), reason=f"not here: {', '.join(WITHOUT)}"),
]

NUM_EPOCHS = 8
SPREAD = {"workers_per_trial": 2, "placement_strategy": "STRICT_SPREAD", "trials_per_pack": 1}
METHOD = {"name": "adaptertune", "rank": 4, "epochs": NUM_EPOCHS}
TRACKING_PORT = 5000
LAST_WORDS_SECONDS = 400.0

AWAIT = """
import sys, time, urllib.request
for _ in range(240):
    try:
        # The first question opens the server's store, which takes longer than a study waits for an answer.
        urllib.request.urlopen(sys.argv[1] + "/api/2.0/mlflow/experiments/search?max_results=1", timeout=120).close()
        sys.exit()
    except OSError as error:
        last = error
        time.sleep(0.5)
sys.exit(str(last))
"""
READ = """
import json, sys
from benchmark.tracking import read_curves, read_study
trials = read_study(sys.argv[1], sys.argv[2]).trials
curves = read_curves(sys.argv[1], [trial.run_id for trial in trials])
epochs = [[record.epoch for record in curves[trial.run_id]] for trial in trials]
results = [{"trial_id": trial.result.trial_id, "top1": trial.result.test.top1} for trial in trials]
print(json.dumps([{**result, "epochs": own} for result, own in zip(results, epochs)]))
"""


@dataclass(frozen=True)
class Story:
    """What was seen.

    Attributes:
        exit_status: Of the command on the first host.
        document: What it printed.
        scores: Test accuracy of each trial, by the first host's ledger.
        tracked: The trials that the second host reads from the server.
        summary: Of the report that the second host writes from the server alone.
        epochs_meanwhile: How many epochs the trial trained while PostgreSQL was down.
    """

    exit_status: int
    document: dict[str, Any]
    scores: dict[str, float]
    tracked: list[dict[str, Any]]
    summary: dict[str, Any]
    epochs_meanwhile: int


@contextlib.contextmanager
def tracking_server(host: Host, database_uri: str) -> Iterator[str]:
    """Run an MLflow server on a host; yield where all hosts reach it."""
    address = f"http://{host.address}:{TRACKING_PORT}"
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", database_uri, "--workers", "1"]
    command += ["--host", host.address, "--port", str(TRACKING_PORT), "--allowed-hosts", f"{host.address}:*"]
    command += ["--artifacts-destination", str(host.folder / "artifacts")]
    with (host.folder / "mlflow.log").open("wb") as log:
        process = subprocess.Popen(
            host.entered(*command), env={**host.environment, **ui_environment()}, stdout=log, stderr=log
        )
    try:
        yield address
    finally:
        process.kill()  # what it started ends with its host
        process.wait()


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trials, one after the other, each with one worker on either host."""
    return write_study(tmp_path_factory.mktemp("study"), "tracked", [METHOD], [0, 1], resources=SPREAD)


@pytest.fixture(scope="module")
def story(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    trial_ids = [trial.spec.trial_id for trial in load_study(str(study)).trials]
    with contextlib.ExitStack() as stack:
        first, second = stack.enter_context(linked_hosts(2))
        database = stack.enter_context(postgres("correct-horse", tuple(first.entered())))
        uri = stack.enter_context(tracking_server(first, database.uri))
        for host in (first, second):
            host.output_of(sys.executable, "-c", AWAIT, uri)
            host.start_ray(num_cpus=1)
        output = first.folder / "output"
        command = ["-m", "tuning", "run", str(study), "--output", str(output), "--json", "--tracking-uri", uri]
        process = first.python(*command, "--address", f"{first.address}:{GCS_PORT}")
        wait_until(lambda: last_epoch(output, trial_ids[0]) >= 1, process)
        database.stop()
        epoch = last_epoch(output, trial_ids[0])
        wait_until(lambda: last_epoch(output, trial_ids[0]) >= epoch + 2, process)
        epochs_meanwhile = last_epoch(output, trial_ids[0]) - epoch
        database.start()
        text, messages = process.communicate(timeout=LAST_WORDS_SECONDS)
        assert text, messages
        with contextlib.closing(Ledger(output)) as ledger:
            outcomes = {trial_id: ledger.outcome(trial_id) for trial_id in trial_ids}
        scores = {one: outcome.result.test.top1 for one, outcome in outcomes.items() if outcome and outcome.result.test}
        tracked = json.loads(second.output_of(sys.executable, "-c", READ, uri, "tracked"))
        report = ["-m", "tuning", "report", "tracked", "--tracking-uri", uri, "--output", str(second.folder), "--json"]
        summary = json.loads(second.output_of(sys.executable, *report))
        yield Story(process.returncode, json.loads(text), scores, tracked, summary, epochs_meanwhile)


def test_study_completes_when_its_trackers_database_is_restarted(story: Story) -> None:
    assert story.exit_status == 0, story.document
    assert list(story.document["statuses"].values()) == ["COMPLETED", "COMPLETED"]
    assert story.epochs_meanwhile >= 2, "training does not wait for the tracker"


def test_every_epoch_is_tracked_once_when_the_database_was_down_for_some(story: Story) -> None:
    assert story.document["not_tracked"] == []
    assert {one["trial_id"]: one["top1"] for one in story.tracked} == story.scores
    assert [one["epochs"] for one in story.tracked] == [list(range(NUM_EPOCHS + 1))] * 2


def test_other_host_writes_the_report_when_it_only_reaches_the_server(story: Story) -> None:
    assert story.summary["num_trials"] == 2
    assert story.summary["conditions"][0]["test_top1_mean"] == pytest.approx(sum(story.scores.values()) / 2)
