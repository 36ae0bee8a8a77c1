"""The rank curve and its elbow: chosen on validation, with test only reported beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reports.conditions import Condition
from reports.fields import family_key
from reports.statistics import estimate

DELTA = 0.01
"""How far below the best mean validation top-1 the elbow may lie: one percentage point."""


@dataclass(frozen=True)
class RankCurve:
    """Conditions that differ in rank alone, by ascending rank.

    Attributes:
        conditions: At least two, one a rank.
        elbow: The smallest rank whose mean validation top-1 is within `delta` of the best; none without scores.
        best: The rank with the best mean validation top-1 (the smaller one of equals).
        delta: The tolerance, a fraction.
        caution: What weakens the choice, such as ranks without a score; none otherwise.
    """

    conditions: tuple[Condition, ...]
    elbow: Condition | None
    best: Condition | None
    delta: float
    caution: str | None

    @property
    def is_levelled_off(self) -> bool:
        """Whether the curve has an elbow at all: at the largest rank tried it may only be cut off."""
        return self.elbow is not None and self.elbow is not self.conditions[-1]

    @property
    def label(self) -> str:
        """The method and what its ranks share."""
        first = self.conditions[0]
        return " ".join(part for part in first.label.split(" ") if part != f"r{first.option('rank')}")


def families(conditions: Sequence[Condition], option: str) -> list[tuple[Condition, ...]]:
    """Return the groups of two or more conditions that differ in one method option alone."""
    groups: dict[str, list[Condition]] = {}
    for condition in conditions:
        if condition.option(option) is not None:
            groups.setdefault(family_key(condition.spec, option), []).append(condition)
    return [tuple(members) for members in groups.values() if len(members) > 1]


def rank_curves(conditions: Sequence[Condition], delta: float = DELTA) -> list[RankCurve]:
    """Return every rank curve of the study with its elbow."""
    return [rank_curve(members, delta) for members in families(conditions, "rank")]


def rank_curve(members: Sequence[Condition], delta: float = DELTA) -> RankCurve:
    """Return the curve of conditions that differ in rank alone."""
    ordered = tuple(sorted(members, key=lambda condition: condition.option("rank")))
    means = [(condition, estimate(list(condition.scores("validation").values())).mean) for condition in ordered]
    scored = [(condition, mean) for condition, mean in means if mean is not None]
    if not scored:
        return RankCurve(ordered, None, None, delta, "no rank has a validation score")
    best, best_mean = max(scored, key=lambda pair: pair[1])
    # The tolerance is compared with rounding in mind: 0.97 - 0.96 exceeds 0.01 in binary.
    elbow = next(condition for condition, mean in scored if mean >= best_mean - delta - 1e-12)
    return RankCurve(ordered, elbow, best, delta, _caution(ordered))


def _caution(ordered: Sequence[Condition]) -> str | None:
    unscored = [str(condition.option("rank")) for condition in ordered if not condition.scores("validation")]
    if unscored:
        return f"no validation score at rank {', '.join(unscored)}"
    if len({frozenset(condition.scores("validation")) for condition in ordered}) > 1:
        return "the ranks' means do not rest on the same seeds"
    return None


def recommendation(curve: RankCurve) -> str:
    """Return the sentence that says which rank to take and why."""
    where = f"{curve.label} on {curve.conditions[0].setting.name}"
    if curve.elbow is None or curve.best is None:
        return f"{where}: no rank can be recommended, {curve.caution}."
    elbow, best = curve.elbow.option("rank"), curve.best.option("rank")
    ranks = ", ".join(str(condition.option("rank")) for condition in curve.conditions)
    within = f"is the smallest within {100 * curve.delta:g} point of the best, {best}"
    if not curve.is_levelled_off:
        reach = "is the largest tried and still the best by more than the tolerance: no elbow was reached"
    else:
        reach = "is itself the best" if elbow == best else within
    caution = f" (caution: {curve.caution})" if curve.caution else ""
    return f"{where}: take rank {elbow}, which {reach}, in mean validation top-1 among ranks {ranks}{caution}."
