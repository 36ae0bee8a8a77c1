"""All that a study's report says, computed once from its tracked trials; the renderers only lay it out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from benchmark.errors import Problem, RequestError
from benchmark.result import EpochRecord
from reports.claims import ClaimSpec, check_claims, matched_pairs
from reports.combinations import Combination, combine
from reports.comparisons import Comparison, compare_all
from reports.conditions import Condition, MissingSeed, find_missing, group_conditions, is_search, seeds_in_scope
from reports.image_tests import ImageComparison, PredictionReader, compare_images
from reports.rank import RankCurve, families, rank_curves
from reports.standings import Group, standings_of
from reports.verdicts import Verdict, judge_all

if TYPE_CHECKING:
    from benchmark.tracking import StudyRecord

CurveReader = Callable[[Sequence[str]], dict[str, list[EpochRecord]]]
"""Reads the per-epoch records of the given runs."""


LossReader = Callable[[Sequence[str]], dict[str, list[float]]]
"""Reads the training losses of the given runs' first optimiser steps."""


@dataclass(frozen=True)
class Analysis:
    """A study's conditions and everything that follows from them.

    Attributes:
        study: What tracking knows.
        conditions: In the plan's order.
        missing: Planned seeds without a usable score.
        comparisons: Paired differences on test.
        standings: Methods over several data sets; none where there is one.
        verdicts: One a claim.
        image_comparisons: The claims' pairs over the test images; empty where no predictions were read.
        combinations: What the seeds of a condition give together; none for a search.
        rank_curves: Conditions that differ in rank alone.
        placements: Conditions that differ in placement alone.
        initialisations: Conditions that differ in initialisation alone.
        curves: Per-epoch records by run id, of the runs in `initialisations`.
        first_losses: Losses of the first optimiser steps by run id, of the same runs; empty where none were read.
        overhead_seconds: Mean over completed trials of wall minus training minus evaluation; none without costs.
    """

    study: StudyRecord
    conditions: list[Condition]
    missing: list[MissingSeed]
    comparisons: list[Comparison]
    standings: list[Group]
    verdicts: list[Verdict]
    image_comparisons: list[ImageComparison]
    combinations: list[Combination]
    rank_curves: list[RankCurve]
    placements: list[tuple[Condition, ...]]
    initialisations: list[tuple[Condition, ...]]
    curves: dict[str, list[EpochRecord]]
    first_losses: dict[str, list[float]]
    overhead_seconds: float | None


def analyse(
    study: StudyRecord,
    curves: CurveReader,
    first_losses: LossReader | None = None,
    predictions: PredictionReader | None = None,
) -> Analysis:
    """Return the analysis of a study; the readers are asked once, for the runs that are drawn or claimed about."""
    conditions = group_conditions(study)
    pairs = _claimed_pairs(study, conditions)
    initialisations = families(conditions, "init")
    run_ids = [run_id for family in initialisations for condition in family for run_id in condition.run_ids]
    compared = [(a, b, claim.id) for claim, sides in pairs for a, b in sides]
    verdicts = judge_all(pairs)
    return Analysis(
        study=study,
        conditions=conditions,
        missing=find_missing(study, conditions),
        comparisons=[] if is_search(study) else compare_all(conditions, compared),
        standings=[] if is_search(study) else standings_of(conditions),
        verdicts=verdicts,
        image_comparisons=compare_images(verdicts, predictions),
        combinations=[] if is_search(study) else combine(study, conditions, predictions),
        rank_curves=rank_curves(conditions),
        placements=families(conditions, "placement"),
        initialisations=initialisations,
        curves=curves(run_ids) if run_ids else {},
        first_losses=first_losses(run_ids) if run_ids and first_losses else {},
        overhead_seconds=overhead_seconds(conditions),
    )


def claims_of(study: StudyRecord) -> list[ClaimSpec]:
    """Return the claims that are judged: those that the study's YAML states, none for a search.

    Raises:
        RequestError: A stored claim does not have the form of one.
    """
    claims: list[ClaimSpec] = []
    if is_search(study):  # its confirmation judges them
        return claims
    for index, stored in enumerate(study.spec.get("claims") or []):
        try:
            claims.append(ClaimSpec.model_validate(stored))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join([f"claims[{index}]", *(str(part) for part in first["loc"])])
            raise RequestError(where, first["input"], first["msg"]) from error
    return claims


def _claimed_pairs(
    study: StudyRecord, conditions: Sequence[Condition]
) -> list[tuple[ClaimSpec, list[tuple[Condition, Condition]]]]:
    """Return every claim with its conditions; a claim that does not fit the plan has none, and stays undecided."""
    planned = seeds_in_scope(study)
    by_id = {condition.condition_id: condition for condition in conditions}
    pairs = []
    for claim in claims_of(study):
        found = [] if check_claims([claim], planned) else matched_pairs(claim, planned)
        pairs.append((claim, [(by_id[a], by_id[b]) for a, b in found]))
    return pairs


def overhead_seconds(conditions: Sequence[Condition]) -> float | None:
    """Return the mean seconds a completed trial spends outside its training and evaluation steps."""
    costs = [seed.result.cost for condition in conditions for seed in condition.completed]
    seconds = [cost.wall_seconds - cost.train_seconds - cost.evaluation_seconds for cost in costs if cost is not None]
    finite = [value for value in seconds if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else None


def refuse_when_incomplete(analysis: Analysis) -> None:
    """Refuse a strict report of a study with missing seeds.

    Raises:
        RequestError: A planned seed has no usable score; every one of them is named.
    """
    rule = "a strict report needs every planned seed completed"
    hint = f"Run `adaptertune run {analysis.study.name}` again, or report without --strict."
    problems = [
        Problem(f"{seed.condition_id} seed {seed.seed}", f"{seed.status}: {seed.reason}", rule, hint)
        for seed in analysis.missing
    ]
    if problems:
        raise RequestError.of(problems)
