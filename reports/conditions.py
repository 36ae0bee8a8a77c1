"""Groups a study's trials into conditions (the same spec under any seed) and names the seeds that are missing."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from benchmark.result import Scores, TrialResult, TrialStatus
from reports.fields import (
    RANDOM_WEIGHTS,
    Setting,
    has_random_weights,
    method_of,
    options_of,
    selectable_fields,
    setting_of,
    soup_of,
)
from reports.naming import ASSUMED_OPTIONS, LABEL_SEPARATOR, label_of

if TYPE_CHECKING:
    from benchmark.tracking import PlannedTrial, StudyRecord, TrackedTrial

Split = Literal["test", "validation"]

NOT_RUN = "NOT_RUN"
"""Stands for the status of a planned trial that has no result yet."""


@dataclass(frozen=True)
class SeedResult:
    """One completed trial of a condition."""

    seed: int
    run_id: str
    result: TrialResult

    def score(self, split: Split) -> float | None:
        """Return the top-1 fraction on a split; none where it was not measured or is not a number."""
        scores: Scores | None = self.result.test if split == "test" else self.result.validation
        return scores.top1 if scores is not None and math.isfinite(scores.top1) else None


@dataclass(frozen=True)
class MissingSeed:
    """A planned seed without a usable result, and why."""

    condition_id: str
    label: str
    seed: int
    trial_id: str
    status: str
    reason: str
    run_id: str | None


@dataclass(frozen=True)
class Condition:
    """All seeds of one spec.

    Attributes:
        condition_id: The identity from the spec.
        id: A readable, stable name that ends in the identity's first digits.
        label: The method and what tells it apart from the other conditions of its setting.
        setting: Backbone, data set and protocol.
        spec: One of its trials' specs, without the seed.
        planned_seeds: The seeds the study asks for.
        completed: The completed trials by ascending seed; nothing else enters a statistic.
    """

    condition_id: str
    id: str
    label: str
    setting: Setting
    spec: Mapping[str, Any]
    planned_seeds: tuple[int, ...]
    completed: tuple[SeedResult, ...]
    _scores: dict[Split, dict[int, float]] = field(default_factory=dict, init=False, compare=False, repr=False)

    @property
    def method(self) -> str:
        """The method's public name."""
        return method_of(self.spec)

    @property
    def run_ids(self) -> tuple[str, ...]:
        """The completed trials' runs, by ascending seed."""
        return tuple(seed.run_id for seed in self.completed)

    def option(self, name: str) -> Any:
        """Return one of the method's options; none where it has no such option."""
        return options_of(self.spec).get(name)

    def scores(self, split: Split) -> dict[int, float]:
        """Return the top-1 fraction by seed, completed trials with a finite score only."""
        if split not in self._scores:  # asked for by every table, figure and test, a thousand times in a large study
            scores = {seed.seed: seed.score(split) for seed in self.completed}
            self._scores[split] = {seed: score for seed, score in scores.items() if score is not None}
        return dict(self._scores[split])

    def num_test_images(self) -> int | None:
        """Return the size of the test split; none before a trial has read it."""
        tests = (seed.result.test for seed in self.completed)
        return next((scores.num_images for scores in tests if scores is not None), None)

    def num_trainable_parameters(self) -> int | None:
        """Return the trainable parameters, adapters and head; none before a trial has completed."""
        costs = (seed.result.cost for seed in self.completed)
        return next((cost.num_trainable_parameters for cost in costs if cost is not None), None)


def trials_in_scope(study: StudyRecord) -> list[PlannedTrial]:
    """Return what the study asks for; where no plan was stored, every trial that ran."""
    from benchmark.tracking import PlannedTrial

    if study.planned:
        return list(study.planned)
    results = [trial.result for trial in results_by_trial(study.trials).values()]
    return [PlannedTrial(result.trial_id, result.condition_id, result.spec) for result in results]


def seeds_in_scope(study: StudyRecord) -> list[PlannedTrial]:
    """Return what the study asks to be trained: its trials without the soups, which belong to no seed."""
    return [trial for trial in trials_in_scope(study) if soup_of(trial.spec) is None]


def soups_in_scope(study: StudyRecord) -> list[PlannedTrial]:
    """Return the weight soups of the study, as far as they are known."""
    return [trial for trial in trials_in_scope(study) if soup_of(trial.spec) is not None]


def trained_condition(soup: PlannedTrial, condition_of: Mapping[str, str]) -> str | None:
    """Return the condition whose seeds a soup averages; none where the study does not have them.

    Args:
        soup: The soup.
        condition_of: Condition id by trial id.
    """
    members = (soup_of(soup.spec) or {}).get("members") or []
    return next((condition_of[member] for member in members if member in condition_of), None)


def results_by_trial(trials: Sequence[TrackedTrial]) -> dict[str, TrackedTrial]:
    """Return the trial that counts for each identity: a completed one before any other, else the last."""
    chosen: dict[str, TrackedTrial] = {}
    for trial in trials:
        earlier = chosen.get(trial.result.trial_id)
        if earlier is None or earlier.result.status is not TrialStatus.COMPLETED:
            chosen[trial.result.trial_id] = trial
    return chosen


def group_conditions(study: StudyRecord) -> list[Condition]:
    """Return the study's conditions in the order in which its plan names them."""
    results = results_by_trial(study.trials)
    groups: dict[str, list[PlannedTrial]] = {}
    for planned in seeds_in_scope(study):
        groups.setdefault(planned.condition_id, []).append(planned)
    labels = condition_labels({key: members[0].spec for key, members in groups.items()})
    return [_condition(key, members, results, labels[key]) for key, members in groups.items()]


def _condition(
    condition_id: str, members: Sequence[PlannedTrial], results: Mapping[str, TrackedTrial], label: str
) -> Condition:
    spec = {name: value for name, value in members[0].spec.items() if name != "seed"}
    tracked = [results[member.trial_id] for member in members if member.trial_id in results]
    completed = [
        SeedResult(int(trial.result.spec["seed"]), trial.run_id, trial.result)
        for trial in tracked
        if trial.result.status is TrialStatus.COMPLETED
    ]
    return Condition(
        condition_id=condition_id,
        id=readable_id(spec, condition_id),
        label=label,
        setting=setting_of(spec),
        spec=spec,
        planned_seeds=tuple(sorted(int(member.spec["seed"]) for member in members)),
        completed=tuple(sorted(completed, key=lambda seed: seed.seed)),
    )


def readable_id(spec: Mapping[str, Any], condition_id: str) -> str:
    """Return an id such as `vit_nano/digits/adaptertune-r16-all-zero-1a2b3c`; it follows from the spec alone."""
    setting = setting_of(spec)
    name = "-".join([method_of(spec), *short_options(spec).values(), condition_id[:6]])
    return "/".join(re.sub(r"[^\w.:,+-]+", "_", part) for part in (setting.backbone, setting.dataset, name))


def short_options(spec: Mapping[str, Any]) -> dict[str, str]:
    """Return rank, placement and initialisation in short, as far as the method has them."""
    options = options_of(spec)
    written = {"rank": "r{}", "placement": "{}", "init": "{}"}
    return {name: form.format(options[name]) for name, form in written.items() if options.get(name) is not None}


def condition_labels(specs: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return a label by condition: the method, its rank, and every other field that tells two of them apart.

    Random weights stand in every label, so that every table says so.
    """
    varying = varying_fields(specs.values())
    return {key: _label(spec, varying[method_of(spec)]) for key, spec in specs.items()}


def _label(spec: Mapping[str, Any], varying: set[str]) -> str:
    fields = selectable_fields(spec)
    others = {name: fields[name] for name in sorted(varying - ASSUMED_OPTIONS.keys()) if name in fields}
    label = label_of(method_of(spec), options_of(spec), varying, others)
    soup = soup_of(spec)
    label = f"{label}{LABEL_SEPARATOR}{soup['recipe']} soup" if soup else label
    return f"{label} · {RANDOM_WEIGHTS}" if has_random_weights(spec) else label


def varying_fields(specs: Any) -> dict[str, set[str]]:
    """Return, by method, the fields beyond the rank that differ among its conditions."""
    named = {"rank", "backbone", "dataset", "method"}
    seen: dict[str, dict[str, set[str]]] = {}
    for spec in specs:
        fields = seen.setdefault(method_of(spec), {})
        for name, value in selectable_fields(spec).items():
            if name not in named:
                fields.setdefault(name, set()).add(repr(value))
    return {method: {name for name, values in fields.items() if len(values) > 1} for method, fields in seen.items()}


def is_search(study: StudyRecord) -> bool:
    """Return whether the study is a search, which reads validation only and prunes by design."""
    return study.spec.get("kind") == "search"


def find_missing(study: StudyRecord, conditions: Sequence[Condition]) -> list[MissingSeed]:
    """Return every planned seed that gives the statistics no score, with its status and reason."""
    results = results_by_trial(study.trials)
    by_id = {condition.condition_id: condition for condition in conditions}
    condition_of = {trial.trial_id: trial.condition_id for trial in seeds_in_scope(study)}
    missing = []
    for planned in trials_in_scope(study):
        why = _why_missing(results.get(planned.trial_id), is_search(study))
        key = trained_condition(planned, condition_of) if soup_of(planned.spec) else planned.condition_id
        if why is not None and key is not None:
            tracked, condition = results.get(planned.trial_id), by_id[key]
            soup = soup_of(planned.spec)
            label = f"{condition.label}{LABEL_SEPARATOR}{soup['recipe']} soup" if soup else condition.label
            run_id = tracked.run_id if tracked else None
            seed = int(planned.spec["seed"])
            missing.append(MissingSeed(condition.id, label, seed, planned.trial_id, *why, run_id))
    return missing


def _why_missing(tracked: TrackedTrial | None, searching: bool) -> tuple[str, str] | None:
    """Return status and reason of a trial that has no usable score; none for one that has."""
    if tracked is None:
        return NOT_RUN, "not run yet"
    result = tracked.result
    if searching and result.status is TrialStatus.PRUNED:
        return None
    if result.status is not TrialStatus.COMPLETED:
        return result.status.value, result.reason or "no reason was stored"
    split: Split = "validation" if searching else "test"
    if SeedResult(0, tracked.run_id, result).score(split) is None:
        return result.status.value, f"completed without a finite {split} top-1"
    return None


def count_statuses(study: StudyRecord) -> dict[str, int]:
    """Return how many of the study's trials ended each way; COMPLETED always stands, the rest where it occurs."""
    results = results_by_trial(study.trials)
    counts = {TrialStatus.COMPLETED.value: 0}
    for planned in trials_in_scope(study):
        tracked = results.get(planned.trial_id)
        status = tracked.result.status.value if tracked else NOT_RUN
        counts[status] = counts.get(status, 0) + 1
    return counts
