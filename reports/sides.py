"""Finds the two sides of an explanation among the tracked studies: a run, or all runs of a condition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmark.errors import RequestError, nearest
from benchmark.result import TrialResult
from reports.conditions import Condition, SeedResult, Split, group_conditions, results_by_trial
from reports.statistics import estimate

if TYPE_CHECKING:
    from benchmark.tracking import StudyRecord, TrackedTrial

SHORTEST_PREFIX = 6
"""An id may be cut short to so many characters, where it stays the only one."""


@dataclass(frozen=True)
class Side:
    """One side: a run, or the completed runs of a condition.

    Attributes:
        name: The id under which it was found: a run's, or a condition's readable one.
        label: What it is, for readers.
        study: The study it was found in.
        is_run: Whether it is one run.
        spec: The spec as JSON values; without the seed for a condition.
        results: The records behind it.
        run_ids: Their runs.
        test: Test top-1 by seed, fractions.
        validation: The same on validation.
        seed_std: Standard deviation of its condition's test top-1 over seeds; none below two.
    """

    name: str
    label: str
    study: str
    is_run: bool
    spec: Mapping[str, Any]
    results: tuple[TrialResult, ...]
    run_ids: tuple[str, ...]
    test: dict[int, float]
    validation: dict[int, float]
    seed_std: float | None


def find_sides(names: Sequence[str], studies: Sequence[StudyRecord]) -> list[Side]:
    """Return the sides that ids name: run ids, trial ids, condition ids, or a report's readable condition ids.

    Args:
        names: The ids, in full or cut short.
        studies: Where to look; the first that has an id counts.

    Raises:
        RequestError: An id is unknown, cut too short, or some are runs and others conditions.
    """
    index: dict[str, Side] = {}
    for study in studies:
        for key, side in _sides_of(study):
            known = index.get(key)
            if known is None or not known.results:
                index[key] = side
    sides = [index[_full_id(name, where, index)] for name, where in zip(names, ("RUN_A", "RUN_B"), strict=True)]
    if sides[0].is_run != sides[1].is_run:
        run = next(side for side in sides if side.is_run)
        rule = "compare two runs or two conditions, not one with the other"
        raise RequestError(
            "RUN_A, RUN_B",
            ", ".join(names),
            rule,
            f"{run.name} belongs to the condition {run.results[0].condition_id}.",
        )
    return sides


def _sides_of(study: StudyRecord) -> list[tuple[str, Side]]:
    """Return a study's sides, each under all of its ids."""
    conditions = group_conditions(study)
    by_id = {condition.condition_id: condition for condition in conditions}
    found: list[tuple[str, Side]] = []
    for condition in conditions:
        side = _condition_side(condition, study.name)
        found += [(condition.condition_id, side), (condition.id, side)]
    counting = {tracked.run_id for tracked in results_by_trial(study.trials).values()}
    for tracked in study.trials:
        side = _run_side(tracked, by_id.get(tracked.result.condition_id), study.name)
        found.append((tracked.run_id, side))
        found += [(tracked.result.trial_id, side)] if tracked.run_id in counting else []
    return found


def _condition_side(condition: Condition, study: str) -> Side:
    test = condition.scores("test")
    return Side(
        name=condition.id,
        label=f"{condition.label}, {condition.setting.name}",
        study=study,
        is_run=False,
        spec=condition.spec,
        results=tuple(seed.result for seed in condition.completed),
        run_ids=condition.run_ids,
        test=test,
        validation=condition.scores("validation"),
        seed_std=estimate(list(test.values())).std,
    )


def _run_side(tracked: TrackedTrial, condition: Condition | None, study: str) -> Side:
    result, seed = tracked.result, int(tracked.result.spec["seed"])
    one = SeedResult(seed, tracked.run_id, result)
    label = f"{condition.label}, {condition.setting.name}" if condition else result.condition_id
    std = estimate(list(condition.scores("test").values())).std if condition else None
    return Side(
        name=tracked.run_id,
        label=f"{label}, seed {seed}, {result.status.value}",
        study=study,
        is_run=True,
        spec=result.spec,
        results=(result,),
        run_ids=(tracked.run_id,),
        test=_scored(one, "test"),
        validation=_scored(one, "validation"),
        seed_std=std,
    )


def _scored(one: SeedResult, split: Split) -> dict[int, float]:
    score = one.score(split)
    return {} if score is None else {one.seed: score}


def _full_id(name: str, where: str, index: Mapping[str, Side]) -> str:
    """Return the id that a name stands for."""
    if name in index:
        return name
    longer = sorted(key for key in index if key.startswith(name)) if len(name) >= SHORTEST_PREFIX else []
    if len(longer) == 1:
        return longer[0]
    if longer:
        raise RequestError(where, name, f"{len(longer)} ids begin so", f"They are {', '.join(longer[:5])}.")
    rule = "no tracked study has a run, trial or condition of this id"
    hint = nearest(name, index) if len(index) <= 20 else nearest_few(name, index)
    raise RequestError(where, name, rule, hint or "Nothing is tracked there yet: name the folder with --output.")


def nearest_few(name: str, index: Mapping[str, Side]) -> str:
    """Return a hint with the nearest ids; where none is near, one condition as an example."""
    hint = nearest(name, index)
    if hint.startswith("Did"):
        return hint
    example = next(side.name for side in index.values() if not side.is_run)
    return f"Ids stand in a report's section on runs and in its trials.csv, such as {example}."
