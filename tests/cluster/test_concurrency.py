"""How many trials run at once, which come first, and when no more start: real Ray, trials that do not train."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark.launch_plan import plan_launch
from benchmark.result import EpochRecord, TrialStatus
from launch import cluster
from launch.ranks import TrialProgram
from tests.trials import make_spec
from tuning import scheduler
from tuning.budget import Budget
from tuning.ledger import Ledger
from tuning.scheduled_trial import ScheduledTrial
from tuning.scheduler import run_trials

PROGRAM = TrialProgram("fake_trial:trial_steps", "fake_trial:pack_steps", adopt=False)
TRIALS = [ScheduledTrial(make_spec(seed, seconds=0.1), plan_launch(4)) for seed in range(4)]


class Listener:
    """Counts the trials that run."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.num_running = self.most_at_once = 0

    def on_trial_started(self, trial_id: str, num_sharing: int) -> None:
        self.started.append(trial_id)
        self.num_running += 1
        self.most_at_once = max(self.most_at_once, self.num_running)

    def on_quiet(self) -> None:
        pass

    def on_epoch(self, trial_id: str, record: EpochRecord) -> None:
        pass

    def on_trial_ended(self, trial_id: str, status: TrialStatus) -> None:
        self.num_running -= 1


@pytest.fixture(scope="module")
def connected() -> Iterator[None]:
    """Two CPUs, and so two slots, for the whole module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent / "programs"))
        with cluster.connect("local", num_cpus=2) as connection:
            patch.setattr(scheduler, "connect", lambda *_: contextlib.nullcontext(connection))
            yield


@pytest.mark.usefixtures("connected")
def test_no_more_trials_run_at_once_than_allowed_when_two_would_fit(tmp_path: Path) -> None:
    listener, ledger = Listener(), Ledger(tmp_path)
    statuses = run_trials(TRIALS, "local", ledger, listener, study="demo", program=PROGRAM, max_concurrent_trials=1)
    assert list(statuses.values()) == [TrialStatus.COMPLETED] * 4
    assert listener.most_at_once == 1


@pytest.mark.usefixtures("connected")
def test_trials_start_by_priority_and_then_in_the_studys_order(tmp_path: Path) -> None:
    listener = Listener()
    trials = [
        dataclasses.replace(trial, priority=priority) for trial, priority in zip(TRIALS, [0, 5, 0, 9], strict=True)
    ]
    run_trials(trials, "local", Ledger(tmp_path), listener, study="demo", program=PROGRAM, max_concurrent_trials=1)
    assert listener.started == [TRIALS[index].spec.trial_id for index in (3, 1, 0, 2)]


class Spending(Listener):
    """Lets each trial hold a GPU for an hour, by a clock that the trials' ends move on."""

    def __init__(self, max_gpu_hours: float) -> None:
        super().__init__()
        self.ended: list[str] = []
        self.budget = Budget(max_gpu_hours=max_gpu_hours, clock=lambda: 3600.0 * len(self.ended))

    def on_trial_started(self, trial_id: str, num_sharing: int) -> None:
        super().on_trial_started(trial_id, num_sharing)
        self.budget.trial_started(trial_id, 1.0 / num_sharing)

    def on_trial_ended(self, trial_id: str, status: TrialStatus) -> None:
        super().on_trial_ended(trial_id, status)
        self.ended.append(trial_id)
        self.budget.trial_ended(trial_id)


@pytest.mark.usefixtures("connected")
def test_no_further_trial_ends_when_the_gpu_hours_are_spent_and_the_rest_runs_later(tmp_path: Path) -> None:
    spending, ledger = Spending(max_gpu_hours=2.0), Ledger(tmp_path)
    options = {"study": "demo", "program": PROGRAM, "max_concurrent_trials": 1}
    stop = {"should_stop": lambda: spending.budget.spent() is not None}
    first = run_trials(TRIALS, "local", ledger, spending, **options, **stop)  # type: ignore[arg-type]
    assert spending.budget.spent() == "--max-gpu-hours 2"
    later = run_trials(TRIALS, "local", ledger, Listener(), **options)  # type: ignore[arg-type]
    assert list(first) == [trial.spec.trial_id for trial in TRIALS[:2]]
    assert list(later) == [trial.spec.trial_id for trial in TRIALS[2:]]
