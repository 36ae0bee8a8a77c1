"""Chooses a trial's micro-batch, accumulation and ZeRO stage, so that a rank's step fits into the memory it has."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

from benchmark.datasets.contract import open_dataset
from benchmark.launch_plan import LaunchPlan
from benchmark.spec import TrialSpec
from benchmark.training.estimate import cache_bytes, traced
from benchmark.training.footprint import Footprint
from benchmark.training.valueless import valueless_model


@dataclass(frozen=True)
class Fit:
    """How a trial runs in some memory.

    Attributes:
        plan: The plan that takes the fewest accumulation steps; where none fits, the smallest there is.
        memory: One rank's under it: an upper bound, exact where the micro-batch is the one that was asked for.
        fits: Whether that is within the memory.
    """

    plan: LaunchPlan
    memory: Footprint
    fits: bool


def zero_stages() -> tuple[int, ...]:
    """Return the ZeRO stages that a launch plan may name."""
    return tuple(sorted(typing.get_args(LaunchPlan.model_fields["zero_stage"].annotation)))


def fitted(spec: TrialSpec, plan: LaunchPlan, budgets: Sequence[int]) -> list[Fit]:
    """Return how a trial runs in each of several memories.

    The plan's own micro-batch is taken where it fits; else the largest that does, whose steps add up to the same
    global batch; a higher ZeRO stage comes after all micro-batches of a lower one.

    Args:
        spec: The trial.
        plan: As it was asked for.
        budgets: Bytes of a rank.
    """
    info = open_dataset(spec.dataset, spec.seed).info
    with valueless_model(spec, info.num_classes) as model:
        cache = cache_bytes(model, spec, plan, info.num_images)
        asked = traced(model, spec, plan)
        ends = tuple(
            traced(model, spec, _with(plan, plan.zero_stage, images, max(2, plan.accumulation_steps)))
            for images in (1, plan.micro_batch_images)
        )
    candidates = [
        (one, _between(ends, one, plan) if one.accumulation_steps > plan.accumulation_steps else asked)
        for one in _candidates(plan)
    ]
    fits = [(one, memory.sharded(one.zero_stage, one.num_workers).with_cache(cache)) for one, memory in candidates]
    return [_first_that_fits(fits, budget) for budget in budgets]


def _first_that_fits(candidates: Sequence[tuple[LaunchPlan, Footprint]], budget: int) -> Fit:
    fitting = next(((plan, memory) for plan, memory in candidates if memory.total <= budget), None)
    plan, memory = fitting or candidates[-1]
    return Fit(plan, memory, fits=fitting is not None)


def _candidates(plan: LaunchPlan) -> Iterator[LaunchPlan]:
    """Yield the plan, and those with smaller micro-batches, stage after stage; one worker has nothing to shard."""
    stages = (
        [stage for stage in zero_stages() if stage >= plan.zero_stage] if plan.num_workers > 1 else [plan.zero_stage]
    )
    per_step = plan.micro_batch_images * plan.accumulation_steps
    for stage in stages:
        for micro_batch in range(plan.micro_batch_images, 0, -1):
            if per_step % micro_batch == 0:
                yield _with(plan, stage, micro_batch, per_step // micro_batch)


def _with(plan: LaunchPlan, stage: int, micro_batch_images: int, accumulation_steps: int) -> LaunchPlan:
    changed = {"zero_stage": stage, "micro_batch_images": micro_batch_images, "accumulation_steps": accumulation_steps}
    return plan.model_copy(update=changed)


def _between(ends: tuple[Footprint, ...], plan: LaunchPlan, largest: LaunchPlan) -> Footprint:
    """Return the footprint of a micro-batch between 1 and the largest.

    Each moment of a step takes memory that is linear in the micro-batch, so their maximum is convex, and the chord
    between two sizes is never below it.
    """
    low, high = ends
    share = (plan.micro_batch_images - 1) / max(1, largest.micro_batch_images - 1)
    parts = {one.name: (getattr(low, one.name), getattr(high, one.name)) for one in fields(Footprint)}
    return Footprint(**{name: round(small + share * (large - small)) for name, (small, large) in parts.items()})
