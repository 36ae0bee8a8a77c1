"""A study whose driver is lost with its disk: another one elsewhere goes on from the mirror."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.hosts import last_epoch
from tests.cluster.study_command import start_run, write_study
from tuning.study import load_study

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

METHOD = {"name": "adaptertune", "rank": 2, "epochs": 30}
PATIENCE_SECONDS = 300.0


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    resources = {"trials_per_pack": 1, "max_concurrent_trials": 1, "mirror_url": (folder / "mirror").as_uri()}
    return write_study(folder, "mirrored", [METHOD], [0, 1], resources=resources)


@pytest.fixture(scope="module")
def documents(study: Path) -> Iterator[tuple[int, dict[str, Any], dict[str, Any]]]:
    """The epoch that the mirror held when the first driver was killed; what the second and a third printed."""
    second = load_study(str(study)).trials[1].spec.trial_id
    mirrored = study.parent / "mirror" / "trials" / second / "open.json"
    process = start_run(study, study.parent / "lost")
    wait_until(lambda: last_epoch(study.parent / "lost", second) >= 5 and mirrored.exists(), process)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=PATIENCE_SECONDS)
    epoch = json.loads(mirrored.read_text())["epochs"][-1]["epoch"]
    yield epoch, run(study, study.parent / "second"), run(study, study.parent / "third")


def run(study: Path, output: Path) -> dict[str, Any]:
    process = start_run(study, output)
    text, messages = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, messages
    document: dict[str, Any] = json.loads(text)
    return document


def wait_until(condition: Any, process: subprocess.Popen[str]) -> None:
    ends = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_second_driver_runs_what_was_open_and_no_more(documents: Any, study: Path) -> None:
    epoch, second, _ = documents
    assert epoch >= 1
    assert second["num_run"] == 1
    assert list(second["statuses"].values()) == ["COMPLETED", "COMPLETED"]


def test_epochs_behind_the_mirrors_copy_are_not_trained_again(documents: Any, study: Path) -> None:
    import sqlite3

    epoch, _, _ = documents
    with sqlite3.connect(study.parent / "second" / "ledger.sqlite") as ledger:
        kept = ledger.execute("SELECT COUNT(*) FROM epochs WHERE wall_seconds = 0").fetchone()[0]
    # Thirty epochs and epoch 0 of the ended trial, and those of the open one before the copied checkpoint's.
    assert kept == 31 + epoch


def test_third_driver_has_nothing_to_run_and_the_same_scores(documents: Any) -> None:
    _, second, third = documents
    assert third["num_run"] == 0
    scores = [[one["test_top1_mean"] for one in document["summary"]["conditions"]] for document in (second, third)]
    assert scores[0] == scores[1] != [None]
