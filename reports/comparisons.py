"""Paired differences between conditions: claims' own pairs first, then every condition against the two baselines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from reports.conditions import Condition
from reports.fields import Setting
from reports.statistics import PairedDifference, holm, paired_difference

BASELINES = ("head_only", "full_finetune")
"""What every condition is compared with, where the study has it."""


@dataclass(frozen=True)
class Comparison:
    """The test difference a - b, with the p-value corrected over the whole table."""

    a: Condition
    b: Condition
    purpose: str
    difference: PairedDifference
    p_value_holm: float | None = None

    @property
    def run_ids(self) -> tuple[str, ...]:
        """The runs behind it: side a by seed, then side b by seed, paired seeds only."""
        sides = (self.a.completed, self.b.completed)
        return tuple(seed.run_id for side in sides for seed in side if seed.seed in self.difference.seeds)


def compare(a: Condition, b: Condition, purpose: str) -> Comparison:
    """Return one comparison on test, not yet corrected."""
    return Comparison(a, b, purpose, paired_difference(a.scores("test"), b.scores("test")))


def compare_all(
    conditions: Sequence[Condition], claimed: Sequence[tuple[Condition, Condition, str]]
) -> list[Comparison]:
    """Return every comparison of the study, each unordered pair once, Holm-corrected over the table.

    Args:
        conditions: The study's conditions.
        claimed: The claims' pairs as (a, b, claim id); they come first, in the claim's direction.
    """
    rows: dict[frozenset[str], Comparison] = {}
    named = [(a, b, f"claim {claim_id}") for a, b, claim_id in claimed]
    for a, b, purpose in [*named, *_against_baselines(conditions)]:
        rows.setdefault(frozenset((a.condition_id, b.condition_id)), compare(a, b, purpose))
    adjusted = holm([row.difference.p_value for row in rows.values()])
    return [replace(row, p_value_holm=p_value) for row, p_value in zip(rows.values(), adjusted, strict=True)]


def _against_baselines(conditions: Sequence[Condition]) -> Iterator[tuple[Condition, Condition, str]]:
    by_setting: dict[Setting, list[Condition]] = {}
    for condition in conditions:
        by_setting.setdefault(condition.setting, []).append(condition)
    for baseline in BASELINES:
        for condition in conditions:
            if condition.method != baseline:
                for other in baselines_of(condition, by_setting[condition.setting], baseline):
                    yield condition, other, f"against {baseline}"


def baselines_of(condition: Condition, conditions: Sequence[Condition], baseline: str) -> list[Condition]:
    """Return the baseline's conditions in the same setting: the equally trained ones where there are any, else all."""
    candidates = [other for other in conditions if other.method == baseline and other.setting == condition.setting]
    alike = [other for other in candidates if other.spec.get("training") == condition.spec.get("training")]
    return alike or candidates
