"""Judges a study's claims by the paired 95 % intervals of the backbones and data sets they cover."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from reports.claims import ClaimSpec
from reports.comparisons import Comparison, compare
from reports.conditions import Condition
from reports.formatting import percent, plural, points, points_interval
from reports.statistics import SIGNIFICANCE, SignFlipTest, holm, p_value_of_margin, seeds_needed, sign_flip_test
from reports.statistics.pooling import Pooled, pooled_mean

VerdictName = Literal["confirmed", "contradicted", "undecided"]

RULE = (
    "confirmed when the paired 95 % interval of every pair (backbone and data set) lies above the margin; contradicted "
    "when that of any pair lies wholly below it, Holm-corrected over the claim's pairs; undecided otherwise. A claim "
    "about a share of the pairs counts those above and below after Holm's correction; a claim about the mean rests on "
    "the interval of the mean over pairs, one about parameters on their numbers alone"
)


@dataclass(frozen=True)
class Verdict:
    """A claim and what the study says of it.

    Attributes:
        claim: The claim as the study's YAML states it.
        name: The verdict.
        pairs: The comparison of each setting.
        pair_names: The verdict on each pair alone, by its own interval.
        seeds_needed: For an undecided pair with an interval, roughly how many seeds would decide it, by position.
        more_seeds_needed: How many more seeds would decide all that is open; none where nothing is, or none can tell.
        mean: The mean over settings of a - b; none without a setting.
        sign_flip: The pooled permutation test of a mean equal to the margin; none without a paired seed.
        parameter_share: Mean over settings of a's trained parameters over b's; none before both completed.
        summary: How the pairs add up; none for a claim on one.
        reason: Why it is undecided; none otherwise.
        caution: Planned seeds that the verdict had to do without; none when all are there.
        p_values: Of each pair, for a mean difference equal to the margin; none where undefined.
        p_values_holm: The same, corrected over all pairs of all of the study's claims.
    """

    claim: ClaimSpec
    name: VerdictName
    pairs: tuple[Comparison, ...]
    pair_names: tuple[VerdictName, ...]
    seeds_needed: tuple[int | None, ...]
    more_seeds_needed: int | None
    mean: Pooled | None
    sign_flip: SignFlipTest | None
    parameter_share: float | None
    summary: str | None
    reason: str | None
    caution: str | None
    p_values: tuple[float | None, ...]
    p_values_holm: tuple[float | None, ...]

    @property
    def run_ids(self) -> tuple[str, ...]:
        """The runs behind every pair, each once."""
        return tuple(dict.fromkeys(run_id for pair in self.pairs for run_id in pair.run_ids))


def judge_all(claims: Sequence[tuple[ClaimSpec, Sequence[tuple[Condition, Condition]]]]) -> list[Verdict]:
    """Return the verdict on every claim of a study, with p-values corrected over all of them.

    A verdict itself rests on its own intervals. The claims were named before any run, so they alone are the family that
    a reader may want a correction for; the table of all differences has its own.
    """
    verdicts = [judge(claim, pairs) for claim, pairs in claims]
    corrected = iter(holm([value for verdict in verdicts for value in verdict.p_values]))
    return [replace(one, p_values_holm=tuple(next(corrected) for _ in one.p_values)) for one in verdicts]


def judge(claim: ClaimSpec, pairs: Sequence[tuple[Condition, Condition]]) -> Verdict:
    """Return the verdict on a claim; its p-values are corrected for its own pairs alone.

    Args:
        claim: The claim.
        pairs: Its conditions (a, b), one pair a backbone and data set; see `reports.claims.matched_pairs`.
    """
    compared = tuple(compare(a, b, f"claim {claim.id}") for a, b in pairs)
    about_parameters = claim.parameter_share_below is not None
    p_values = tuple(
        None if about_parameters else p_value_of_margin(pair.difference, claim.margin) for pair in compared
    )
    mean = pooled_mean([pair.difference.by_seed for pair in compared]) if compared else None
    verdict = Verdict(
        claim=claim,
        name="undecided",
        pairs=compared,
        pair_names=tuple(_side(pair.difference.interval, claim.margin) for pair in compared),
        seeds_needed=tuple(_seeds_needed(pair, claim.margin) for pair in compared),
        more_seeds_needed=None,
        mean=mean,
        sign_flip=_pooled_test(compared, claim.margin),
        parameter_share=_parameter_share(pairs),
        summary=None,
        reason=None,
        caution=None if about_parameters else _caution(compared),
        p_values=p_values,
        p_values_holm=tuple(holm(p_values)),
    )
    return _explained(replace(verdict, name=_name(verdict)))


def _side(interval: tuple[float, float] | None, margin: float) -> VerdictName:
    """Return on which side of the margin an interval lies."""
    if interval is None or interval[0] <= margin <= interval[1]:
        return "undecided"
    return "confirmed" if interval[0] > margin else "contradicted"


def pairs_required(claim: ClaimSpec, num_pairs: int) -> int:
    """Return how many of a claim's pairs must exceed the margin."""
    return math.ceil(claim.at_least_fraction * num_pairs - 1e-9)


def _name(verdict: Verdict) -> VerdictName:
    claim = verdict.claim
    if not verdict.pairs:
        return "undecided"
    if claim.parameter_share_below is not None:
        if verdict.parameter_share is None:
            return "undecided"
        return "confirmed" if verdict.parameter_share < claim.parameter_share_below else "contradicted"
    if claim.over == "mean":
        return _side(verdict.mean.interval if verdict.mean else None, claim.margin)
    return _name_over_pairs(verdict)


def _name_over_pairs(verdict: Verdict) -> VerdictName:
    """Count the pairs on either side.

    That every pair exceeds the margin is shown by each pair's own test; that some do, or that one does not, is a choice
    among many and asks for Holm's correction.
    """
    total, required = len(verdict.pairs), pairs_required(verdict.claim, len(verdict.pairs))
    if required == total and verdict.pair_names.count("confirmed") == total:
        return "confirmed"
    # A difference without any spread has no p-value; its interval decides.
    corrected = [p_value is None or p_value < SIGNIFICANCE for p_value in verdict.p_values_holm]
    clear = [name for name, is_clear in zip(verdict.pair_names, corrected, strict=True) if is_clear]
    if clear.count("contradicted") > total - required:
        return "contradicted"
    return "confirmed" if required < total and clear.count("confirmed") >= required else "undecided"


def _pooled_test(pairs: Sequence[Comparison], margin: float) -> SignFlipTest | None:
    strata = [np.array(list(pair.difference.by_seed.values())) - margin for pair in pairs]
    return sign_flip_test(strata) if any(stratum.size for stratum in strata) else None


def _parameter_share(pairs: Sequence[tuple[Condition, Condition]]) -> float | None:
    """Return the mean over pairs of trained parameters, a over b; none where a side has not completed."""
    counts = [(a.num_trainable_parameters(), b.num_trainable_parameters()) for a, b in pairs]
    shares = [a / b for a, b in counts if a is not None and b]
    return sum(shares) / len(shares) if pairs and len(shares) == len(pairs) else None


def _seeds_needed(pair: Comparison, margin: float) -> int | None:
    """Return a rough number of seeds for a pair whose interval holds the margin."""
    difference = pair.difference
    if difference.interval is None or difference.mean is None or not difference.std:
        return None
    low, high = difference.interval
    return seeds_needed(difference.mean - margin, difference.std) if low <= margin <= high else None


def _explained(verdict: Verdict) -> Verdict:
    """Return the verdict with its summary and, where it is undecided, the reason and how many more seeds it takes."""
    verdict = replace(verdict, summary=_summary(verdict))
    if verdict.name != "undecided":
        return verdict
    more = _more_seeds(verdict)
    told = f"; about {plural(more, 'more seed')} would decide it, were mean and spread to stay" if more else ""
    return replace(verdict, more_seeds_needed=more, reason=_why_undecided(verdict) + told)


def _more_seeds(verdict: Verdict) -> int | None:
    """Return how many seeds beyond those there are would decide the mean, or every pair that is open."""
    if verdict.claim.parameter_share_below is not None or not verdict.pairs:
        return None
    if verdict.claim.over == "mean":
        shared = set.intersection(*(set(pair.difference.seeds) for pair in verdict.pairs))
        means = [np.mean([pair.difference.by_seed[seed] for pair in verdict.pairs]) for seed in sorted(shared)]
        if len(means) < 2:
            return None
        needed = seeds_needed(float(np.mean(means)) - verdict.claim.margin, float(np.std(means, ddof=1)))
        return None if needed is None else max(1, needed - len(means))
    open_pairs = [index for index, name in enumerate(verdict.pair_names) if name == "undecided"]
    more = [(verdict.seeds_needed[index], verdict.pairs[index].difference.num_pairs) for index in open_pairs]
    known = [needed - there for needed, there in more if needed is not None]
    return max(1, *known) if known and len(known) == len(more) else None


def _summary(verdict: Verdict) -> str | None:
    """Return how a claim's pairs add up, with the published figure where one is cited."""
    claim, total = verdict.claim, len(verdict.pairs)
    if claim.parameter_share_below is not None:
        if verdict.parameter_share is None:
            return None
        told = (
            f"a trains {percent(verdict.parameter_share)} % of b's parameters in the mean over {plural(total, 'pair')}"
        )
        cited = f", published (cited): {percent(claim.published)} %" if claim.published is not None else ""
        return f"{told}; the claim is below {percent(claim.parameter_share_below)} %{cited}"
    parts = []
    if total > 1 or claim.published is not None:
        parts = [_mean_text(verdict)]
    if total > 1 and claim.over == "pairs":
        names, required = verdict.pair_names, pairs_required(claim, total)
        counts = ", ".join(f"{names.count(name)} {name}" for name in ("confirmed", "contradicted", "undecided"))
        parts.insert(0, f"of {total} pairs {counts}; the claim asks for {required}")
    return "; ".join(parts) or None


def _mean_text(verdict: Verdict) -> str:
    mean, published = verdict.mean, verdict.claim.published
    if mean is None or mean.mean is None:
        return "no mean over the pairs: one of them has no paired seed"
    told = f"mean over the pairs {points(mean.mean)} points, 95 % interval {points_interval(mean.interval)}"
    if published is None:
        return told
    inside = mean.interval is not None and mean.interval[0] <= published <= mean.interval[1]
    where = "inside" if inside else "outside"
    return f"{told}; published (cited): {points(published)}" + (f", {where} the interval" if mean.interval else "")


def _why_undecided(verdict: Verdict) -> str:
    pairs, margin = verdict.pairs, verdict.claim.margin
    if not pairs:
        return "no backbone and data set has both sides"
    if verdict.claim.parameter_share_below is not None:
        return "a side has not completed, so its parameters are not counted"
    blank = [pair for pair in pairs if pair.difference.interval is None]
    if blank:
        return f"{blank[0].a.setting.name}: {blank[0].difference.reason}"
    if verdict.claim.over == "mean":
        found = verdict.mean.interval if verdict.mean else None
        return (
            "the 95 % interval of the mean contains the margin" if found else "the mean over the pairs has no interval"
        )
    held = sum(low <= margin <= high for low, high in (pair.difference.interval or (0.0, 0.0) for pair in pairs))
    if not held:
        return "too few pairs stay clear of the margin after Holm's correction"
    where = "" if len(pairs) == 1 else f" in {held} of {len(pairs)} pairs"
    return f"the 95 % interval contains the margin{where}"


def _caution(pairs: Sequence[Comparison]) -> str | None:
    """Return which planned seeds a verdict does without: seeds that failed are not a random choice."""
    missing = [
        f"{pair.a.setting.name}: seed {seed}"
        for pair in pairs
        for seed in sorted(set(pair.a.planned_seeds) & set(pair.b.planned_seeds) - set(pair.difference.seeds))
    ]
    return f"rests on the completed seeds alone; missing {', '.join(missing)}" if missing else None
