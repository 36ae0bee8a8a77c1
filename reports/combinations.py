"""What the seeds of a condition give together: logit ensembles from stored logits, and the weight soups that were run.

Each is one model, so no interval over seeds belongs to it; over test images it has one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmark.errors import AdapterTuneError
from benchmark.result import TrialStatus, why_not_averaged
from reports.conditions import (
    Condition,
    SeedResult,
    results_by_trial,
    seeds_in_scope,
    soups_in_scope,
    trained_condition,
)
from reports.fields import soup_of
from reports.image_tests import PredictionReader
from reports.statistics import estimate, holm
from reports.statistics.images import McNemar, mcnemar, wilson_interval

if TYPE_CHECKING:
    from benchmark.tracking import StudyRecord, TrackedTrial

MOST_RUNS_READ = 300
"""Each run's logits are a file to fetch: of a larger study only the best condition of each setting is combined."""

ENSEMBLE = "logit ensemble"


@dataclass(frozen=True)
class Combination:
    """One model made of a condition's seeds.

    Attributes:
        condition: The condition.
        kind: `logit ensemble`, `uniform soup` or `greedy soup`.
        num_members: Seeds that are in it; none where it is not there.
        num_offered: Completed seeds.
        num_passes: Forward passes that it takes for an image.
        validation: Top-1 on validation, a fraction; none for an ensemble, whose validation logits are not stored.
        test: Top-1 on test, a fraction.
        gain: Test top-1 less the mean of the single seeds'.
        interval: 95 % interval of the test top-1 over images.
        against_seed: McNemar's test against the seed that is best on validation.
        p_value_holm: Its p-value, corrected over the table.
        run_ids: Its own run, or those of its members.
        reason: Why something is absent.
    """

    condition: Condition
    kind: str
    num_members: int | None = None
    num_offered: int = 0
    num_passes: int | None = None
    validation: float | None = None
    test: float | None = None
    gain: float | None = None
    interval: tuple[float, float] | None = None
    against_seed: McNemar | None = None
    p_value_holm: float | None = None
    run_ids: tuple[str, ...] = ()
    reason: str | None = None


@dataclass(frozen=True)
class Labelled:
    """A run's test images: which class each has, and what the run gave each class."""

    label: dict[str, int]
    logits: dict[str, NDArray[Any]]

    def right(self) -> dict[str, bool]:
        """Return by image whether the class of the largest logit is the image's."""
        return {image: int(values.argmax()) == self.label[image] for image, values in self.logits.items()}


def combine(study: StudyRecord, conditions: Sequence[Condition], read: PredictionReader | None) -> list[Combination]:
    """Return the ensembles and soups of a study, a condition's one after the other; p-values are Holm-corrected.

    Args:
        study: What tracking knows.
        conditions: Its conditions.
        read: Reads a run's predictions; without it there are soups alone, untested against a seed.
    """
    soups, found = _soups(study), []
    ensembled = {condition.condition_id for condition in _combined(conditions)}
    for condition in conditions:
        base, several = _best_seed(condition), len(condition.scores("test")) > 1
        if read is not None and several and condition.condition_id in ensembled:
            found.append(_ensemble(condition, base, _read_seeds(condition, read)))
        found += [
            _soup(condition, recipe, soups.get((condition.condition_id, recipe)), base, read)
            for recipe in study.spec.get("soups") or []
        ]
    return _corrected(found)


def _combined(conditions: Sequence[Condition]) -> Sequence[Condition]:
    """Return the conditions whose logits are read: all, or the best on validation of each setting, or none."""
    if sum(len(condition.run_ids) for condition in conditions) <= MOST_RUNS_READ:
        return conditions
    best: dict[str, tuple[float, Condition]] = {}
    for condition in conditions:
        mean = estimate(list(condition.scores("validation").values())).mean
        if mean is not None and mean > best.get(condition.setting.key, (-1.0, condition))[0]:
            best[condition.setting.key] = mean, condition
    chosen = [condition for _, condition in best.values()]
    return chosen if sum(len(condition.run_ids) for condition in chosen) <= MOST_RUNS_READ else []


def _soups(study: StudyRecord) -> dict[tuple[str, str], TrackedTrial | None]:
    """Return the soups of the plan by condition and recipe; none for one that has not ended."""
    condition_of = {trial.trial_id: trial.condition_id for trial in seeds_in_scope(study)}
    results = results_by_trial(study.trials)
    soups: dict[tuple[str, str], TrackedTrial | None] = {}
    for planned in soups_in_scope(study):
        key = trained_condition(planned, condition_of)
        if key is not None:
            soups[key, str((soup_of(planned.spec) or {}).get("recipe"))] = results.get(planned.trial_id)
    return soups


def _best_seed(condition: Condition) -> SeedResult | None:
    """Return the seed that is best on validation, the first of equals; none without a validation score."""
    scores = condition.scores("validation")
    tested = [seed for seed in condition.completed if seed.seed in scores]
    return max(tested, key=lambda seed: scores[seed.seed]) if tested else None


def _read_seeds(condition: Condition, read: PredictionReader) -> dict[str, Labelled] | str:
    """Return the logits of a condition's runs by run id, or why they cannot be combined."""
    try:
        seeds = {run_id: _labelled(read(run_id)) for run_id in condition.run_ids}
    except AdapterTuneError as error:
        return f"logits cannot be read: {error}"
    first = next(iter(seeds.values()))
    same = all(seed.label == first.label for seed in seeds.values())
    return seeds if same else "the seeds' test images differ"


def _labelled(found: Mapping[str, NDArray[Any]]) -> Labelled:
    names = [str(name) for name in found["identity"]]
    return Labelled(
        dict(zip(names, map(int, found["label"]), strict=True)), dict(zip(names, found["logits"], strict=True))
    )


def _ensemble(condition: Condition, base: SeedResult | None, seeds: dict[str, Labelled] | str) -> Combination:
    if isinstance(seeds, str):
        return Combination(condition, ENSEMBLE, reason=seeds)
    members = list(seeds.values())
    means = {image: np.mean([one.logits[image] for one in members], axis=0) for image in members[0].label}
    right = Labelled(members[0].label, means).right()
    test = fmean(right.values())
    alone = seeds[base.run_id].right() if base is not None else None
    return Combination(
        condition=condition,
        kind=ENSEMBLE,
        num_members=len(members),
        num_offered=len(members),
        num_passes=len(members),
        test=test,
        gain=_gain(condition, test),
        interval=wilson_interval(test, len(right)),
        against_seed=_against(right, alone),
        run_ids=condition.run_ids,
        reason="validation: the logits are stored for test alone",
    )


def _soup(
    condition: Condition,
    recipe: str,
    tracked: TrackedTrial | None,
    base: SeedResult | None,
    read: PredictionReader | None,
) -> Combination:
    kind, offered = f"{recipe} soup", len(condition.completed)
    if tracked is None or tracked.result.test is None or tracked.result.status is not TrialStatus.COMPLETED:
        return Combination(condition, kind, num_offered=offered, reason=_why_no_soup(condition, tracked))
    result = tracked.result
    assert result.test is not None
    against, reason = None, None
    if read is not None and base is not None:
        try:
            against = _against(_labelled(read(tracked.run_id)).right(), _labelled(read(base.run_id)).right())
        except AdapterTuneError as error:
            reason = f"predictions cannot be read: {error}"
    return Combination(
        condition=condition,
        kind=kind,
        num_members=len(result.soup_members),
        num_offered=offered,
        num_passes=1,
        validation=result.validation.top1 if result.validation else None,
        test=result.test.top1,
        gain=_gain(condition, result.test.top1),
        interval=wilson_interval(result.test.top1, result.test.num_images),
        against_seed=against,
        run_ids=(tracked.run_id,),
        reason=reason,
    )


def _why_no_soup(condition: Condition, tracked: TrackedTrial | None) -> str:
    if tracked is not None:
        return f"{tracked.result.status.value}: {tracked.result.reason or 'no test score'}"
    if len(condition.completed) < len(condition.planned_seeds):
        return "a seed has not completed"
    return why_not_averaged([seed.result for seed in condition.completed]) or "not run yet"


def _gain(condition: Condition, test: float) -> float | None:
    mean = estimate(list(condition.scores("test").values())).mean
    return None if mean is None else test - mean


def _against(right: Mapping[str, bool], alone: Mapping[str, bool] | None) -> McNemar | None:
    """Return McNemar's test against a single seed; none where their images differ."""
    if alone is None or alone.keys() != right.keys():
        return None
    images = list(right)
    return mcnemar(np.array([right[one] for one in images]), np.array([alone[one] for one in images]))


def _corrected(found: Sequence[Combination]) -> list[Combination]:
    p_values = holm([one.against_seed.p_value if one.against_seed else None for one in found])
    return [replace(one, p_value_holm=p_value) for one, p_value in zip(found, p_values, strict=True)]
