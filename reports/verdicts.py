"""Judges a study's claims by the paired 95 % interval of every backbone and data set they cover."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from reports.claims import ClaimSpec
from reports.comparisons import Comparison, compare
from reports.conditions import Condition
from reports.statistics import INTERVAL_METHOD, holm, p_value_of_margin, seeds_needed

VerdictName = Literal["confirmed", "contradicted", "undecided"]

RULE = (
    "confirmed when the paired 95 % interval of every pair lies above the margin; contradicted when that of any pair "
    "lies wholly below it; undecided otherwise"
)


@dataclass(frozen=True)
class Verdict:
    """A claim and what the study says of it.

    Attributes:
        claim: The claim as the study's YAML states it.
        name: The verdict.
        pairs: The comparison of each setting.
        seeds_needed: For an undecided pair with an interval, roughly how many seeds would decide it, by position.
        reason: Why it is undecided; none otherwise.
        caution: Planned seeds that the verdict had to do without; none when all are there.
        p_values: Of each pair, for a mean difference equal to the margin; none where undefined.
        p_values_holm: The same, corrected over all pairs of all of the study's claims.
    """

    claim: ClaimSpec
    name: VerdictName
    pairs: tuple[Comparison, ...]
    seeds_needed: tuple[int | None, ...]
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

    A verdict itself rests on its own interval. The claims were named before any run, so they alone are the family that
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
    name = _name(compared, claim.margin)
    needed = tuple(_seeds_needed(pair, claim.margin) for pair in compared)
    reason = _why_undecided(compared, claim.margin) if name == "undecided" else None
    p_values = tuple(p_value_of_margin(pair.difference, claim.margin) for pair in compared)
    return Verdict(claim, name, compared, needed, reason, _caution(compared), p_values, tuple(holm(p_values)))


def _name(pairs: Sequence[Comparison], margin: float) -> VerdictName:
    intervals = [pair.difference.interval for pair in pairs]
    if any(interval is not None and interval[1] < margin for interval in intervals):
        return "contradicted"
    if intervals and all(interval is not None and interval[0] > margin for interval in intervals):
        return "confirmed"
    return "undecided"


def _seeds_needed(pair: Comparison, margin: float) -> int | None:
    """Return a rough number of seeds for a pair whose interval holds the margin."""
    difference = pair.difference
    if difference.interval is None or difference.mean is None or not difference.std:
        return None
    low, high = difference.interval
    return seeds_needed(difference.mean - margin, difference.std) if low <= margin <= high else None


def _why_undecided(pairs: Sequence[Comparison], margin: float) -> str:
    if not pairs:
        return "no backbone and data set has both sides"
    blank = [pair for pair in pairs if pair.difference.interval is None]
    if blank:
        return f"{blank[0].a.setting.name}: {blank[0].difference.reason}"
    held = sum(low <= margin <= high for low, high in (pair.difference.interval or (0.0, 0.0) for pair in pairs))
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


def evidence(verdict: Verdict) -> dict[str, object]:
    """Return a verdict's numbers as JSON values; accuracies are fractions."""
    means = [pair.difference.mean for pair in verdict.pairs if pair.difference.mean is not None]
    return {
        "rule": RULE,
        "interval_method": INTERVAL_METHOD,
        "margin": verdict.claim.margin,
        "num_settings": len(verdict.pairs),
        "num_pairs": sum(pair.difference.num_pairs for pair in verdict.pairs),
        "seeds": sorted({seed for pair in verdict.pairs for seed in pair.difference.seeds}),
        "difference_mean": sum(means) / len(means) if means else None,
        "pairs": [
            _pair_evidence(pair, needed) | {"p_value": alone, "p_value_holm_claims": corrected}
            for pair, needed, alone, corrected in zip(
                verdict.pairs, verdict.seeds_needed, verdict.p_values, verdict.p_values_holm, strict=True
            )
        ],
        "run_ids": list(verdict.run_ids),
        "reason": verdict.reason,
        "caution": verdict.caution,
    }


def _pair_evidence(pair: Comparison, needed: int | None) -> dict[str, object]:
    difference = pair.difference
    return {
        "backbone": pair.a.setting.backbone,
        "dataset": pair.a.setting.dataset,
        "a": pair.a.id,
        "b": pair.b.id,
        "difference_mean": difference.mean,
        "interval_95": list(difference.interval) if difference.interval else None,
        "num_pairs": difference.num_pairs,
        "seeds": list(difference.seeds),
        "seeds_needed": needed,
        "run_ids": list(pair.run_ids),
        "reason": difference.reason,
    }
