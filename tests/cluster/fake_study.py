"""Trials that do not train (`programs/fake_trial.py`), run over real Ray."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import psutil

from benchmark.launch_plan import plan_launch
from benchmark.result import EpochRecord, TrialStatus
from launch.ranks import TrialProgram
from launch.resources import TrialResources
from tests.trials import make_spec
from tuning.ledger import Ledger
from tuning.scheduled_trial import ScheduledTrial
from tuning.scheduler import run_trials

PROGRAM = TrialProgram("fake_trial:trial_steps", "fake_trial:pack_steps", adopt=False)
PROGRAMS_FOLDER = str(Path(__file__).parent / "programs")


class Listener:
    """Keeps what the driver is told."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.epochs: dict[str, list[int]] = {}
        self.ended: dict[str, TrialStatus] = {}

    def on_trial_started(self, trial_id: str, num_sharing: int) -> None:
        self.started.append(trial_id)

    def on_quiet(self) -> None:
        pass

    def on_epoch(self, trial_id: str, record: EpochRecord) -> None:
        self.epochs.setdefault(trial_id, []).append(record.epoch)

    def on_trial_ended(self, trial_id: str, status: TrialStatus) -> None:
        self.ended[trial_id] = status


class Clock(Listener):
    """Keeps when each epoch was told."""

    def __init__(self) -> None:
        super().__init__()
        self.told_at: list[float] = []

    def on_epoch(self, trial_id: str, record: EpochRecord) -> None:
        super().on_epoch(trial_id, record)
        self.told_at.append(time.monotonic())

    @property
    def longest_gap(self) -> float:
        return max(later - earlier for earlier, later in zip(self.told_at, self.told_at[1:], strict=False))


def own_children() -> list[str]:
    children = psutil.Process().children(recursive=True)
    return [child.name() for child in children if child.status() != psutil.STATUS_ZOMBIE]


def run(trials: list[ScheduledTrial], ledger: Ledger, listener: Listener | None = None, **options):
    return run_trials(trials, "local", ledger, listener or Listener(), study="demo", program=PROGRAM, **options)


def alone(seed: int, accumulation_steps: int = 1, **options) -> ScheduledTrial:
    return ScheduledTrial(make_spec(seed, **options), plan_launch(4, accumulation_steps=accumulation_steps))


def in_pairs(seed: int, **options) -> ScheduledTrial:
    return ScheduledTrial(make_spec(seed, **options), plan_launch(4, num_workers=2))


def in_one_slot(trial: ScheduledTrial) -> ScheduledTrial:
    return dataclasses.replace(trial, resources=TrialResources(cpus_per_worker=2))


def result_of(ledger: Ledger, trial: ScheduledTrial):
    result = ledger.result(trial.spec.trial_id)
    assert result is not None
    return result


def processes_of(ledger: Ledger, trial: ScheduledTrial) -> list[str]:
    """Return the process of rank 0 in each of a trial's epochs."""
    return result_of(ledger, trial).reason.split("[")[1].split("]")[0].split(", ")


def plan_of(ledger: Ledger, trial: ScheduledTrial) -> str:
    """Return the micro-batch and the accumulation that a trial ended with."""
    return result_of(ledger, trial).reason.split()[-1]
