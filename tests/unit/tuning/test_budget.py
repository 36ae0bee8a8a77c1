"""Guards that a run stops when it has spent what it may, says so, and can be gone on with."""

from __future__ import annotations

import pytest

from benchmark.errors import RequestError
from benchmark.launch_plan import plan_launch
from launch.resources import TrialResources
from tests.trials import make_spec
from tuning.budget import Budget, check_budget
from tuning.scheduled_trial import ScheduledTrial

HOUR = 3600.0


class Clock:
    """Says what time it is, as it is told."""

    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_nothing_is_spent_when_nothing_is_limited(clock: Clock) -> None:
    budget = Budget(clock=clock)
    budget.trial_started("a", 8)
    clock.seconds += 1000 * HOUR
    assert budget.spent() is None


def test_hours_are_spent_when_the_clock_says_so(clock: Clock) -> None:
    budget = Budget(max_hours=2.0, clock=clock)
    clock.seconds += 2 * HOUR - 1
    assert budget.spent() is None
    clock.seconds += 1
    assert budget.spent() == "--max-hours 2"


def test_gpu_hours_add_up_when_trials_run_side_by_side(clock: Clock) -> None:
    budget = Budget(max_gpu_hours=10.0, clock=clock)
    budget.trial_started("a", 4)
    clock.seconds += HOUR
    budget.trial_started("b", 1)
    clock.seconds += HOUR
    budget.trial_ended("a")
    # By hand: a holds 4 GPUs for 2 hours, b one for 1 hour.
    assert budget.gpu_hours() == pytest.approx(9.0)
    assert budget.spent() is None
    clock.seconds += HOUR
    assert budget.spent() == "--max-gpu-hours 10"


def test_gpus_count_no_longer_when_no_trial_holds_them(clock: Clock) -> None:
    budget = Budget(max_gpu_hours=1.5, clock=clock)
    budget.trial_started("a", 1)
    clock.seconds += HOUR
    budget.trial_ended("a")
    clock.seconds += 10 * HOUR
    assert budget.gpu_hours() == pytest.approx(1.0)
    assert budget.spent() is None


def test_gpus_of_both_times_count_when_a_trial_begins_again_elsewhere(clock: Clock) -> None:
    budget = Budget(max_gpu_hours=10.0, clock=clock)
    budget.trial_started("a", 4)
    clock.seconds += HOUR
    budget.trial_started("a", 2)
    clock.seconds += HOUR
    budget.trial_ended("a")
    assert budget.gpu_hours() == pytest.approx(6.0)


def test_trial_holds_the_gpus_of_all_its_workers_when_spread() -> None:
    trial = ScheduledTrial(make_spec(), plan_launch(4, num_workers=4, device="cuda"), TrialResources(1, 1, "PACK"))
    assert trial.num_gpus == 4


def test_gpu_hours_are_refused_when_no_trial_reserves_a_gpu() -> None:
    trial = ScheduledTrial(make_spec(), plan_launch(4))
    with pytest.raises(RequestError, match=r"--max-gpu-hours: found 2.0; .* Use --max-hours"):
        check_budget([trial], 2.0)
    check_budget([trial], None)
