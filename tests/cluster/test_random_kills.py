"""A driver killed at random moments, again and again, and a second one started by mistake: the study ends as if alone.

ADAPTERTUNE_NUM_KILLS says how often (default 5), ADAPTERTUNE_KILL_SEED which moments (default 0).
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster.aftermath import (
    assert_each_trial_once,
    assert_nothing_left,
    assert_results_undisturbed,
    look,
    shared_memory_files,
)
from tests.cluster.study_command import start_run, write_study
from tuning.study import load_study
from tuning.study_lock import study_is_locked

pytestmark = [pytest.mark.faults, pytest.mark.timeout(7200)]

NUM_KILLS = int(os.environ.get("ADAPTERTUNE_NUM_KILLS", "5"))
KILL_SEED = int(os.environ.get("ADAPTERTUNE_KILL_SEED", "0"))
EACH_ALONE = {"trials_per_pack": 1}
# So many epochs that some are left at the last kill, however fast the machine.
METHODS = ["head_only", {"name": "adaptertune", "rank": 2, "epochs": 8 * NUM_KILLS}]
LONGEST_SECONDS_AMONG_EPOCHS = 2.0

Epochs = dict[str, tuple[str, int | None]]


@dataclass(frozen=True)
class Victim:
    """A study whose drivers are killed."""

    study: Path
    output: Path
    temporary: Path
    trial_ids: list[str]

    def start(self) -> subprocess.Popen[str]:
        return start_run(self.study, self.output, TMPDIR=str(self.temporary))

    def epochs(self) -> Epochs:
        return {key: (str(entry.state), entry.epoch) for key, entry in look(self.output, self.trial_ids).items()}

    def num_epochs(self) -> int:
        """Return how many epochs are recorded, of all trials together, epoch 0 not counted."""
        return sum(epoch or 0 for _, epoch in self.epochs().values())

    def seconds_until_new_epochs(self, process: subprocess.Popen[str], before: Epochs) -> float:
        """Return how long it took until an epoch was recorded."""
        began = time.perf_counter()
        while process.poll() is None:
            now = self.epochs()
            if any(now[key][1] not in (None, before.get(key, ("", None))[1]) for key in now):
                return time.perf_counter() - began
            time.sleep(0.05)
        raise AssertionError(process.communicate())


@pytest.mark.usefixtures("group_of_one")
def test_study_ends_as_if_undisturbed_when_its_driver_is_killed_at_random_moments(
    tmp_path: Path, temporary: Path, note_fault: Callable[..., None], note_line: Callable[[str], None]
) -> None:
    study, shared_memory = write_study(tmp_path, "random", METHODS, [0, 1], resources=EACH_ALONE), shared_memory_files()
    trials, chance = load_study(str(study)).trials, random.Random(KILL_SEED)
    victim = Victim(study, tmp_path / "output", temporary, [trial.spec.trial_id for trial in trials])
    until_training: list[float] = []
    for kill in range(NUM_KILLS):
        began, before, process = time.perf_counter(), victim.epochs(), victim.start()
        # Every second one among the epochs, however slowly the cluster started; the others anywhere up to there.
        if kill % 2 == 0:
            until_training.append(victim.seconds_until_new_epochs(process, before))
            time.sleep(chance.uniform(0.0, LONGEST_SECONDS_AMONG_EPOCHS))
        else:
            time.sleep(chance.uniform(0.0, until_training[-1]))
        process.kill()
        process.communicate(timeout=120)
        note_line(f"kill {kill + 1}: after {time.perf_counter() - began:.1f} s, {victim.num_epochs()} epochs recorded")
    before, process = victim.epochs(), victim.start()
    assert {state for state, _ in before.values()} != {"COMPLETED"}, "the last kill met a study that was done"
    until_training.append(victim.seconds_until_new_epochs(process, before))
    text, messages = process.communicate(timeout=1800)
    assert process.returncode == 0, messages
    assert set(json.loads(text)["statuses"].values()) == {"COMPLETED"}
    again = statistics.median(until_training[1:])
    note_fault(f"the driver killed {NUM_KILLS} times (seed {KILL_SEED}; median of its restarts)", None, again)
    note_line("seconds from a start to its first new epoch: " + ", ".join(f"{one:.1f}" for one in until_training))
    assert_each_trial_once(victim.output, "random", trials)
    assert_nothing_left(temporary, shared_memory)
    assert_results_undisturbed(victim.output, trials)


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
    assert_each_trial_once(output, "twice", load_study(str(study)).trials)
