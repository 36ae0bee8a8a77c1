"""A study that is interrupted, then killed, then run again: nothing is lost, repeated or changed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmark.result import TrialStatus
from tests.cluster.aftermath import (
    assert_each_trial_once,
    assert_nothing_left,
    assert_results_undisturbed,
    look,
    results,
    shared_memory_files,
    short_folder,
)
from tests.cluster.study_command import TRAINING, start_run, write_study
from tuning.ledger import LedgerEntry
from tuning.study import load_study

pytestmark = pytest.mark.timeout(600)

# Each trial alone: the linear heads are done while the adapters have most of their epochs before them.
METHODS = ["head_only", {"name": "adaptertune", "rank": 2, "epochs": 12}]
PATIENCE_SECONDS = 120.0

Entries = dict[str, LedgerEntry]


@dataclass(frozen=True)
class Story:
    """What was seen of a study that was interrupted, killed and run to its end."""

    output: Path
    temporary: Path
    shared_memory_before: set[str]
    interrupted_status: int
    entries_when_interrupted: Entries
    started_at_when_killed: dict[str, str]
    exit_status: int
    document: dict[str, Any]
    messages: str


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("study"), "killed", METHODS, [0, 1], resources={"trials_per_pack": 1})


@pytest.fixture(scope="module")
def story(study: Path) -> Iterator[Story]:
    with short_folder() as temporary:
        yield story_of(study, temporary)


def story_of(study: Path, temporary: Path) -> Story:
    output = study.parent / "output"
    trial_ids = [trial.spec.trial_id for trial in load_study(str(study)).trials]
    environment, shared_memory = {"TMPDIR": str(temporary)}, shared_memory_files()

    process = start_run(study, output, **environment)
    wait_until(lambda: some_adapters_train(look(output, trial_ids)), process)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=PATIENCE_SECONDS)
    interrupted_status, interrupted = process.returncode, look(output, trial_ids)

    process = start_run(study, output, **environment)
    wait_until(lambda: one_is_done_and_another_goes_on(look(output, trial_ids), interrupted), process)
    process.kill()
    process.communicate(timeout=PATIENCE_SECONDS)
    started_at = {trial_id: result.provenance.started_at for trial_id, result in results(output, trial_ids).items()}

    process = start_run(study, output, **environment)
    text, messages = process.communicate(timeout=PATIENCE_SECONDS)
    document = json.loads(text)
    interrupted_story = (interrupted_status, interrupted, started_at)
    return Story(output, temporary, shared_memory, *interrupted_story, process.returncode, document, messages)


def some_adapters_train(entries: Entries) -> bool:
    """Whether a trial is past the last epoch of the linear heads, which may be done before anyone interrupts them."""
    return any(entry.state == "running" and (entry.epoch or 0) > TRAINING["epochs"] for entry in entries.values())


def one_is_done_and_another_goes_on(entries: Entries, before: Entries) -> bool:
    done = any(entry.state is TrialStatus.COMPLETED for entry in entries.values())
    epochs_before = {trial_id: entry.epoch or 0 for trial_id, entry in before.items()}
    running = {trial_id: entry.epoch or 0 for trial_id, entry in entries.items() if entry.state == "running"}
    return done and any(epoch > epochs_before.get(trial_id, 0) for trial_id, epoch in running.items())


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    ends = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < ends, "the study did not get so far"
        time.sleep(0.05)


def test_exit_status_is_130_and_the_study_resumable_when_interrupted(story: Story) -> None:
    assert story.interrupted_status == 130
    states = {str(entry.state) for entry in story.entries_when_interrupted.values()}
    assert "interrupted" in states and states <= {"interrupted", "COMPLETED"}


def test_every_trial_completes_when_the_command_is_run_again(story: Story) -> None:
    assert story.exit_status == 0, story.messages
    assert set(story.document["statuses"].values()) == {"COMPLETED"}
    assert len(story.document["statuses"]) == 4


def test_finished_trials_do_not_run_again_when_the_driver_was_killed(story: Story) -> None:
    finished = results(story.output, list(story.started_at_when_killed))
    assert 1 <= len(story.started_at_when_killed) < 4
    assert {key: result.provenance.started_at for key, result in finished.items()} == story.started_at_when_killed
    # Ranks outlive the driver by a moment, in which a further trial may end.
    assert 1 <= story.document["num_run"] <= 4 - len(finished)


@pytest.mark.usefixtures("group_of_one")
def test_results_equal_an_uninterrupted_run_when_the_driver_was_killed(story: Story, study: Path) -> None:
    assert_results_undisturbed(story.output, load_study(str(study)).trials)


def test_ledger_and_tracking_hold_each_trial_once_when_the_driver_was_killed(story: Story, study: Path) -> None:
    assert_each_trial_once(story.output, "killed", load_study(str(study)).trials)


def test_nothing_is_left_on_the_machine_when_the_study_has_ended(story: Story) -> None:
    assert_nothing_left(story.temporary, story.shared_memory_before)
