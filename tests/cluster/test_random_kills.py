"""A driver killed at random moments, again and again, and a second one started by mistake: the study ends as if alone.

ADAPTERTUNE_NUM_KILLS says how often (default 5), ADAPTERTUNE_KILL_SEED which moments (default 0).
"""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmark.training.process_group import join, leave
from tests.cluster.study_command import start_run, write_study
from tests.cluster.test_kill_and_resume import look, losses, processes_below, results, uninterrupted
from tuning.study import load_study
from tuning.study_lock import study_is_locked

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]

NUM_KILLS = int(os.environ.get("ADAPTERTUNE_NUM_KILLS", "5"))
KILL_SEED = int(os.environ.get("ADAPTERTUNE_KILL_SEED", "0"))
METHODS = ["head_only", {"name": "adaptertune", "rank": 2, "epochs": 12 * NUM_KILLS}]
MISSING = 3
LONGEST_SECONDS = (20.0, 4.0)
"""A driver is killed within so long after its start, or after the first epoch that it brought."""


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A temporary folder of this test's own; Ray's sockets need it short."""
    folder = Path(tempfile.mkdtemp(prefix="r-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def group_of_one() -> Iterator[None]:
    join(0, 1)
    yield
    leave()


@pytest.mark.usefixtures("group_of_one")
def test_study_ends_as_if_undisturbed_when_its_driver_is_killed_at_random_moments(
    tmp_path: Path, temporary: Path, note_fault: Callable[..., None]
) -> None:
    study, output, chance = (
        write_study(tmp_path, "random", METHODS, [0, 1]),
        tmp_path / "output",
        random.Random(KILL_SEED),
    )
    trials = load_study(str(study)).trials
    trial_ids = [trial.spec.trial_id for trial in trials]
    for kill in range(NUM_KILLS):
        before, process = epochs_of(output, trial_ids), start_run(study, output, TMPDIR=str(temporary))
        # Every second one among the epochs, however slowly the cluster started; the others wherever they fall.
        if kill % 2:
            seconds_until_new_epochs(process, output, trial_ids, before)
        time.sleep(chance.uniform(0.0, LONGEST_SECONDS[kill % 2]))
        process.kill()
        process.communicate(timeout=120)
    before, process = epochs_of(output, trial_ids), start_run(study, output, TMPDIR=str(temporary))
    again = seconds_until_new_epochs(process, output, trial_ids, before)
    text = until_complete(process, lambda: start_run(study, output, TMPDIR=str(temporary)))
    assert set(json.loads(text)["statuses"].values()) == {"COMPLETED"}
    note_fault(f"the driver killed {NUM_KILLS} times (seed {KILL_SEED})", None, again)
    found = results(output, trial_ids)
    assert sorted(found) == sorted(trial_ids)
    for trial in trials:
        expected = uninterrupted(trial)
        stored = np.load(output / "trials" / trial.spec.trial_id / "predictions.npz")
        assert stored["logits"].tobytes() == np.load(io.BytesIO(expected.predictions or b""))["logits"].tobytes()
        assert losses(found[trial.spec.trial_id]) == losses(expected.result)
    assert processes_below(temporary) == []
    assert list(temporary.glob("adaptertune-*")) == []


def until_complete(process: subprocess.Popen[str], run_again: Callable[[], subprocess.Popen[str]]) -> str:
    """Return what the run that completes the study prints; one that finds the machine overloaded says: run it again."""
    for _ in range(3):
        text, messages = process.communicate(timeout=900)
        if process.returncode != MISSING:
            break
        process = run_again()
    assert process.returncode == 0, messages
    return text


def epochs_of(output: Path, trial_ids: list[str]) -> dict[str, tuple[str, int | None]]:
    return {key: (str(entry.state), entry.epoch) for key, entry in look(output, trial_ids).items()}


def seconds_until_new_epochs(
    process: subprocess.Popen[str], output: Path, trial_ids: list[str], before: dict[str, tuple[str, int | None]]
) -> float | None:
    """Return how long it took until an epoch was recorded; none where the study had been through already."""
    began = time.perf_counter()
    while process.poll() is None:
        now = epochs_of(output, trial_ids)
        if any(now[key][1] not in (None, before.get(key, ("", None))[1]) for key in now):
            return time.perf_counter() - began
        time.sleep(0.05)
    return None


def test_second_driver_is_refused_when_it_is_started_by_mistake(
    tmp_path: Path, temporary: Path, note_fault: Callable[..., None]
) -> None:
    study, output = write_study(tmp_path, "twice", ["head_only"], [0]), tmp_path / "output"
    first = start_run(study, output, TMPDIR=str(temporary))
    while not study_is_locked(output, "twice"):
        assert first.poll() is None
        time.sleep(0.05)
    began = time.perf_counter()
    second = start_run(study, output, TMPDIR=str(temporary))
    _, messages = second.communicate(timeout=120)
    assert (second.returncode, "being run by process" in " ".join(messages.split())) == (2, True), messages
    note_fault("a second driver on one study (refused)", time.perf_counter() - began, None)
    _, messages = first.communicate(timeout=600)
    assert first.returncode == 0, messages
