"""Guards what a trial does on a cluster that has become too small for its workers, without a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from benchmark.errors import RequestError
from benchmark.launch_plan import plan_launch, with_fewer_workers
from launch.resources import Node, PlacementStrategy, TrialResources
from tests.trials import make_spec
from tuning.elastic import CapacityWatch, fitted
from tuning.scheduled_trial import ScheduledTrial
from tuning.scheduler import in_turn
from tuning.study import load_study


def nodes(count: int, cpus: int = 1) -> tuple[Node, ...]:
    return tuple(Node(f"node-{number}", f"10.0.0.{number}", cpus, 0) for number in range(count))


def spread(
    num_workers: int, min_workers: int | None, batch: int = 48, strategy: PlacementStrategy = "STRICT_SPREAD"
) -> ScheduledTrial:
    resources = TrialResources(placement_strategy=strategy)
    return ScheduledTrial(make_spec(), plan_launch(batch, num_workers=num_workers), resources, min_workers)


@pytest.mark.parametrize(
    ("num_workers", "fewer", "micro_batch", "accumulation"),
    [(4, 3, 8, 2), (4, 2, 12, 2), (4, 1, 12, 4), (3, 2, 12, 2)],  # 48 images: 3 x 16 would need more memory than 12
)
def test_global_batch_stays_and_no_micro_batch_grows_when_workers_are_fewer(
    num_workers: int, fewer: int, micro_batch: int, accumulation: int
) -> None:
    plan = with_fewer_workers(plan_launch(48, num_workers=num_workers), fewer)
    assert plan is not None and plan.global_batch_images == 48
    assert (plan.micro_batch_images, plan.accumulation_steps) == (micro_batch, accumulation)
    assert (plan.num_workers, plan.num_workers_asked) == (fewer, num_workers)


def test_no_plan_is_made_when_the_batch_does_not_divide() -> None:
    assert with_fewer_workers(plan_launch(50, num_workers=5), 4) is None


@pytest.mark.parametrize(
    ("trial", "num_nodes", "num_workers"),
    [
        (spread(4, 1), 4, 4),
        (spread(4, 1), 3, 3),
        (spread(4, 2, strategy="PACK"), 2, 2),
        (spread(5, 1, batch=50), 4, 2),  # neither 4 nor 3 divides 50
    ],
)
def test_trial_gets_the_most_workers_that_fit_and_divide_its_batch(
    trial: ScheduledTrial, num_nodes: int, num_workers: int
) -> None:
    smaller = fitted(trial, nodes(num_nodes))
    assert smaller is not None and smaller.plan.num_workers == num_workers


@pytest.mark.parametrize("trial", [spread(4, None), spread(4, 4), spread(4, 3)])
def test_trial_has_all_its_workers_or_none_when_it_may_not_have_fewer(trial: ScheduledTrial) -> None:
    assert fitted(trial, nodes(2)) is None


def watch_of(*trials: ScheduledTrial, num_nodes: Callable[[], int]) -> CapacityWatch:
    seconds = iter(range(1000))
    return CapacityWatch(trials, 10.0, lambda: nodes(num_nodes()), lambda: float(next(seconds)))


def looks(watch: CapacityWatch, count: int) -> list[bool]:
    return [watch.is_too_small() for _ in range(count)]


def test_watch_gives_up_after_its_patience_when_a_node_stays_away() -> None:
    watch = watch_of(spread(2, 1), num_nodes=lambda: 1)
    assert not any(looks(watch, 3))
    assert looks(watch, 20)[-1]


def test_watch_begins_anew_when_the_node_comes_back_in_time() -> None:
    counts: Iterator[int] = iter([1, 2] * 500)
    assert not any(looks(watch_of(spread(2, 1), num_nodes=lambda: next(counts)), 100))


@pytest.mark.parametrize("trial", [spread(2, None), spread(4, 3)])
def test_watch_waits_for_nodes_when_no_fewer_workers_are_allowed_or_fit(trial: ScheduledTrial) -> None:
    assert not any(looks(watch_of(trial, num_nodes=lambda: 1), 100))


def of_priority(seed: int, priority: int, num_workers: int = 1) -> ScheduledTrial:
    return ScheduledTrial(make_spec(seed), plan_launch(4, num_workers=num_workers), priority=priority)


def test_trials_of_higher_priority_start_first_and_shapes_stay_together() -> None:
    trials = [of_priority(0, 0), of_priority(1, 0, 2), of_priority(2, 5, 2), of_priority(3, 5), of_priority(4, 0)]
    groups = [[trial.spec.seed for trial in group] for group in in_turn(trials)]
    assert groups == [[2], [3, 0, 4], [1]]


STUDY = ["method=[head_only, {name: lora, rank: 2}]", "claims=[]", "seed=0"]


def test_study_says_which_methods_come_first_and_what_may_shrink() -> None:
    workers = ["resources.workers_per_trial=2", "resources.min_workers_per_trial=1"]
    trials = load_study("demo", [*STUDY, *workers, "resources.by_method={lora: {priority: 3}}"]).trials
    assert [(trial.spec.method.name, trial.priority, trial.min_workers) for trial in trials] == [
        ("head_only", 0, 1),
        ("lora", 3, 1),
    ]


def test_resources_change_no_trials_id() -> None:
    settings = ["resources={max_concurrent_trials: 1, by_method: {lora: {priority: 3}}, wait_for_nodes_seconds: 5}"]
    plain, other = load_study("demo", STUDY), load_study("demo", [*STUDY, *settings])
    assert list(plain.trial_specs) == list(other.trial_specs)


def test_study_is_refused_when_its_fewest_workers_are_more_than_its_workers() -> None:
    with pytest.raises(RequestError, match="must not exceed workers_per_trial"):
        load_study("demo", [*STUDY, "resources={workers_per_trial: 2, min_workers_per_trial: 3}"])
