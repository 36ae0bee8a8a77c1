"""Compares methods over several data sets at once: means, interquartile means, each against the best by validation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from reports.conditions import Condition, Split
from reports.fields import recipe_key
from reports.statistics import SIGNIFICANCE, SignFlipTest, holm, paired_difference, sign_flip_test
from reports.statistics.pooling import (
    Pooled,
    improvement_interval,
    mean_over_data_sets,
    pooled_interquartile_mean,
    pooled_mean,
    probability_of_improvement,
)


@dataclass(frozen=True)
class AgainstBest:
    """The best by validation less another, on test, over the data sets of a group.

    Attributes:
        difference: Mean over data sets of the paired differences.
        test: The permutation test that pools the pairs of all data sets; none without a pair.
        p_value_holm: Its p-value, corrected over all rows of the table.
        improvement: The probability that a run of the best beats one of the other; none without scores.
        improvement_interval: Its 95 % interval.
    """

    difference: Pooled
    test: SignFlipTest | None
    p_value_holm: float | None
    improvement: float | None
    improvement_interval: tuple[float, float] | None


@dataclass(frozen=True)
class Standing:
    """One method with its options over the data sets of a group.

    Attributes:
        conditions: Its condition of each data set.
        test: Mean over data sets on test.
        interquartile: Interquartile mean over all runs on test.
        validation_mean: Mean over data sets on validation; none where one has no score.
        against_best: How the best does against it; none for the best itself, or where none is best.
    """

    conditions: tuple[Condition, ...]
    test: Pooled
    interquartile: Pooled
    validation_mean: float | None
    against_best: AgainstBest | None = None

    @property
    def label(self) -> str:
        """The method and its options."""
        return self.conditions[0].label

    @property
    def run_ids(self) -> tuple[str, ...]:
        """The runs behind it."""
        return tuple(run_id for condition in self.conditions for run_id in condition.run_ids)


@dataclass(frozen=True)
class Group:
    """The data sets that a mean goes over.

    Attributes:
        name: The backbone, or that it is all of them.
        num_settings: Pairs of backbone and data set.
        standings: In the plan's order.
        best: Position of the best mean on validation; none without one.
    """

    name: str
    num_settings: int
    standings: tuple[Standing, ...]
    best: int | None

    @property
    def is_clear(self) -> bool:
        """Whether the best beats every other in this group on test, after Holm's correction."""
        others = [standing.against_best for index, standing in enumerate(self.standings) if index != self.best]
        return self.best is not None and bool(others) and all(_is_beaten(other) for other in others)


def _is_beaten(other: AgainstBest | None) -> bool:
    if other is None or other.p_value_holm is None or other.difference.mean is None:
        return False
    return other.p_value_holm < SIGNIFICANCE and other.difference.mean > 0


def standings_of(conditions: Sequence[Condition]) -> list[Group]:
    """Return a group a backbone with several data sets and one over all backbones, Holm-corrected over all of them.

    Only what has a condition on every data set of a group stands in it: a mean over other data sets is another number.
    """
    recipes: dict[str, list[Condition]] = {}
    for condition in conditions:
        recipes.setdefault(recipe_key(condition.spec), []).append(condition)
    names = list(dict.fromkeys(condition.setting.backbone_title for condition in conditions))
    groups = [_group(name, recipes.values(), {name}) for name in names]
    if len(names) > 1:
        groups.append(_group(f"all {len(names)} backbones", recipes.values(), set(names)))
    return _corrected([group for group in groups if group is not None])


def _group(name: str, recipes: Iterable[list[Condition]], backbones: set[str]) -> Group | None:
    """Return the group over the data sets of some backbones; none below two settings or two methods."""
    inside = [[one for one in recipe if one.setting.backbone_title in backbones] for recipe in recipes]
    settings = {one.setting for recipe in inside for one in recipe}
    complete = [recipe for recipe in inside if {one.setting for one in recipe} == settings]
    if len(settings) < 2 or len(complete) < 2:
        return None
    standings = [_standing(tuple(recipe)) for recipe in complete]
    scored = [(one.validation_mean, -index) for index, one in enumerate(standings) if one.validation_mean is not None]
    if not scored:
        return Group(name, len(settings), tuple(standings), None)
    best = -max(scored)[1]
    compared = [
        standing if index == best else replace(standing, against_best=_against(standings[best], standing))
        for index, standing in enumerate(standings)
    ]
    return Group(name, len(settings), tuple(compared), best)


def _standing(conditions: tuple[Condition, ...]) -> Standing:
    ordered = tuple(sorted(conditions, key=lambda condition: condition.setting.key))
    test = [condition.scores("test") for condition in ordered]
    validation = [np.array(list(condition.scores("validation").values())) for condition in ordered]
    chosen_by = mean_over_data_sets(validation) if all(scores.size for scores in validation) else None
    return Standing(ordered, pooled_mean(test), pooled_interquartile_mean(test), chosen_by)


def _against(best: Standing, other: Standing) -> AgainstBest:
    """Return the best less another, not yet corrected."""
    split: Split = "test"
    sides = [(a.scores(split), b.scores(split)) for a, b in zip(best.conditions, other.conditions, strict=True)]
    differences = [paired_difference(a, b).by_seed for a, b in sides]
    strata = [np.array(list(by_seed.values())) for by_seed in differences]
    runs = [(np.array(list(a.values())), np.array(list(b.values()))) for a, b in sides]
    is_scored = all(x.size and y.size for x, y in runs)
    test = sign_flip_test(strata) if all(stratum.size for stratum in strata) else None
    return AgainstBest(
        difference=pooled_mean(differences),
        test=test,
        p_value_holm=None if test is None else test.p_value,
        improvement=probability_of_improvement(runs) if is_scored else None,
        improvement_interval=improvement_interval(runs) if is_scored else None,
    )


def _corrected(groups: Sequence[Group]) -> list[Group]:
    """Return the groups with Holm's correction over all their comparisons."""
    raw = [
        standing.against_best.p_value_holm if standing.against_best else None
        for group in groups
        for standing in group.standings
    ]
    corrected = iter(holm(raw))
    return [
        replace(group, standings=tuple(_with_p_value(one, next(corrected)) for one in group.standings))
        for group in groups
    ]


def _with_p_value(standing: Standing, p_value: float | None) -> Standing:
    if standing.against_best is None:
        return standing
    return replace(standing, against_best=replace(standing.against_best, p_value_holm=p_value))


def num_tests(groups: Sequence[Group]) -> int:
    """Return how many tests the correction is over."""
    compared = [standing.against_best for group in groups for standing in group.standings]
    return sum(other is not None and other.test is not None for other in compared)
