"""The rank curve and its elbow: chosen on validation, with test only reported beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reports.conditions import Condition
from reports.fields import family_key
from reports.statistics import estimate
from reports.statistics.rank_curve import (
    FEWEST_RANKS_FOR_FIT,
    ElbowDraws,
    ErrorFit,
    TrendTest,
    elbow_draws,
    elbow_positions,
    fit_error,
    trend_test,
)

DELTA = 0.01
"""How far below the best mean validation top-1 the elbow may lie: one percentage point."""


@dataclass(frozen=True)
class RankEvidence:
    """What stands behind an elbow, from validation scores alone.

    Attributes:
        ranks: The ranks with a score, ascending; the positions of the rest refer to them.
        draws: How sure the elbow is; none below two seeds that every rank completed.
        trend: Whether accuracy rises with the rank; none below two such seeds or three ranks.
        saturating: The fit a - b · r^(-c), as an error; none below four ranks.
        excess_risk: Approximation error that falls and estimation error that grows; none below four ranks.
        reason: Why something is absent; none otherwise.
    """

    ranks: tuple[int, ...]
    draws: ElbowDraws | None
    trend: TrendTest | None
    saturating: ErrorFit | None
    excess_risk: ErrorFit | None
    reason: str | None


@dataclass(frozen=True)
class RankCurve:
    """Conditions that differ in rank alone, by ascending rank.

    Attributes:
        conditions: At least two, one a rank.
        elbow: The smallest rank whose mean validation top-1 is within `delta` of the best; none without scores.
        best: The rank with the best mean validation top-1 (the smaller one of equals).
        delta: The tolerance, a fraction.
        caution: What weakens the choice, such as ranks without a score; none otherwise.
        evidence: The spread of the elbow, the trend and the fits.
    """

    conditions: tuple[Condition, ...]
    elbow: Condition | None
    best: Condition | None
    delta: float
    caution: str | None
    evidence: RankEvidence

    @property
    def is_levelled_off(self) -> bool:
        """Whether the curve has an elbow at all: at the largest rank tried it may only be cut off."""
        return self.elbow is not None and self.elbow is not self.conditions[-1]

    @property
    def confidence(self) -> float | None:
        """The share of draws that choose the same elbow; none where nothing can be drawn."""
        if self.elbow is None or self.evidence.draws is None:
            return None
        return self.evidence.draws.shares[self.evidence.ranks.index(self.elbow.option("rank"))]

    @property
    def elbow_interval(self) -> tuple[int, int] | None:
        """The lowest and the highest rank of the middle 95 % of draws; none where nothing can be drawn."""
        if self.evidence.draws is None:
            return None
        low, high = self.evidence.draws.interval
        return self.evidence.ranks[low], self.evidence.ranks[high]

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
    evidence = rank_evidence([condition for condition, _ in scored], delta)
    if not scored:
        return RankCurve(ordered, None, None, delta, "no rank has a validation score", evidence)
    best, _ = max(scored, key=lambda pair: pair[1])
    elbow = scored[int(elbow_positions(np.array([mean for _, mean in scored]), delta))][0]
    return RankCurve(ordered, elbow, best, delta, _caution(ordered), evidence)


def rank_evidence(scored: Sequence[Condition], delta: float) -> RankEvidence:
    """Return what the validation scores of conditions by ascending rank support, and why something is absent."""
    ranks = tuple(int(condition.option("rank")) for condition in scored)
    paired, is_fitted = paired_scores(scored), len(ranks) >= FEWEST_RANKS_FOR_FIT
    errors = [1 - float(np.mean(list(condition.scores("validation").values()))) for condition in scored]
    reasons = []
    if len(paired) < 2:
        reasons.append("fewer than two seeds completed at every rank: no interval, no test of a trend")
    elif len(ranks) < 3:
        reasons.append("fewer than three ranks: no test of a trend")
    if not is_fitted:
        reasons.append(f"fewer than {FEWEST_RANKS_FOR_FIT} ranks: no fit")
    return RankEvidence(
        ranks=ranks,
        draws=elbow_draws(paired, delta) if len(paired) > 1 else None,
        trend=trend_test(paired) if len(paired) > 1 and len(ranks) > 2 else None,
        saturating=fit_error(ranks, errors, with_estimation=False) if is_fitted else None,
        excess_risk=fit_error(ranks, errors, with_estimation=True) if is_fitted else None,
        reason="; ".join(reasons) or None,
    )


def paired_scores(conditions: Sequence[Condition]) -> NDArray[np.float64]:
    """Return validation top-1 of the seeds that every condition completed, shape [num_seeds, num_conditions]."""
    scores = [condition.scores("validation") for condition in conditions]
    seeds = sorted(set.intersection(*(set(by_seed) for by_seed in scores))) if scores else []
    rows = [[by_seed[seed] for by_seed in scores] for seed in seeds]
    return np.array(rows, dtype=np.float64).reshape(len(seeds), len(scores))


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
    sure = _confidence_text(curve)
    return f"{where}: use r = {elbow} ({sure}), which {reach}, in mean validation top-1 among ranks {ranks}{caution}."


def _confidence_text(curve: RankCurve) -> str:
    draws, interval = curve.evidence.draws, curve.elbow_interval
    if draws is None or interval is None or curve.confidence is None:
        return "no confidence can be given: fewer than two seeds completed at every rank"
    low, high = interval
    between = str(low) if low == high else f"{low} to {high}"
    return f"confidence {100 * curve.confidence:.0f} %, 95 % interval {between}, over {draws.num_seeds} paired seeds"
