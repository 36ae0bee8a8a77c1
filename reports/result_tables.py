"""The report's main tables: results, paired differences, claims, elbows."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

from reports.analysis import Analysis
from reports.comparisons import Comparison
from reports.conditions import Condition, Split, is_search
from reports.formatting import (
    ABSENT,
    count,
    flops,
    mean_and_std,
    memory,
    p_value,
    percent_interval,
    points,
    points_interval,
)
from reports.statistics import SIGNIFICANCE, Estimate, PairedDifference, estimate, pairs_needed
from reports.statistics.images import wilson_interval
from reports.tables import Cell, Column, Table, without_constants
from reports.verdicts import RULE, Verdict

BUDGET_UNITS: dict[str, tuple[Callable[[int], str], str]] = {
    "parameters": (count, "parameters"),
    "training_flops": (flops, "FLOPs"),
    "memory_bytes": (memory, "of memory"),
}

SEARCH_NOTE = "A search reads validation alone: these scores chose among settings, so they flatter the best one."

PLACE = (Column("backbone", "Backbone"), Column("dataset", "Data set"))


def as_raw(interval: tuple[float, float] | None) -> str | None:
    """Return an interval as JSON text, fractions."""
    return None if interval is None else json.dumps(list(interval))


def place_cells(condition: Condition) -> tuple[Cell, Cell]:
    """Return the cells of backbone and data set."""
    return Cell(condition.setting.backbone), Cell(condition.setting.dataset)


def results_table(analysis: Analysis) -> Table:
    """Return every condition's scores: mean, deviation, interval, seeds, parameters; a search's, best first."""
    is_matched = any(_match_of(condition) for condition in analysis.conditions)
    searching = is_search(analysis.study)
    split: Split = "validation" if searching else "test"
    columns = (
        *PLACE,
        Column("condition", "Condition"),
        Column(f"{split}_top1_mean", f"{split.capitalize()} top-1, %", True),
        Column("interval_95", "95 % interval", True),
        *(() if searching else (Column("images_interval_95", "95 % over images", True),)),
        Column("num_seeds", "Seeds", True),
        *(() if searching else (Column("validation_top1_mean", "Validation, %", True),)),
        Column("num_trainable_parameters", "Trained parameters", True),
        *((Column("match", "Budget: used of"),) if is_matched else ()),
    )
    caption = (
        "Mean ± standard deviation over seeds; 95 % interval of the mean by Student's t over seeds, not clipped to "
        "[0, 100], on one split. "
    )
    caption += "" if searching else "Over images: Wilson's interval, what other test images might give. "
    caption += SEARCH_NOTE if searching else "Choices read validation; test is only reported."
    conditions = sorted(analysis.conditions, key=_search_order) if searching else analysis.conditions
    rows = tuple(
        (*_result_row(condition, split), *((_match_cell(condition),) if is_matched else ())) for condition in conditions
    )
    return Table("results", "Results", caption, columns, rows)


def _search_order(condition: Condition) -> tuple[str, str, float]:
    """Sort by backbone and data set, then by the validation score, best first."""
    mean = estimate(list(condition.scores("validation").values())).mean
    return condition.setting.backbone, condition.setting.dataset, math.inf if mean is None else -mean


def _result_row(condition: Condition, split: Split) -> tuple[Cell, ...]:
    scores = estimate(list(condition.scores(split).values()))
    parameters = condition.num_trainable_parameters()
    runs, planned = condition.run_ids, len(condition.planned_seeds)
    interval = Cell(percent_interval(scores.interval), as_raw(scores.interval), runs, scores.reason, _forest(scores))
    return (
        *place_cells(condition),
        Cell(condition.label, run_ids=runs),
        _mean_cell(condition, split),
        interval,
        *((_images_cell(condition, scores.mean),) if split == "test" else ()),
        Cell(f"{scores.num_seeds} of {planned}", scores.num_seeds, runs),
        *((_mean_cell(condition, "validation"),) if split == "test" else ()),
        Cell(count(parameters), parameters, runs, None if parameters is not None else "no seed has completed"),
    )


def _images_cell(condition: Condition, mean: float | None) -> Cell:
    """Return the interval over test images of the mean over seeds."""
    num_images = condition.num_test_images()
    if mean is None or not num_images:
        return Cell(ABSENT, reason="no test score")
    interval = wilson_interval(mean, num_images)
    return Cell(percent_interval(interval), as_raw(interval), condition.run_ids)


def _match_of(condition: Condition) -> dict[str, Any]:
    """Return what the study's `match` gave a condition; empty where nothing was asked."""
    return dict(condition.spec["method"].get("match") or {})


def _match_cell(condition: Condition) -> Cell:
    match = _match_of(condition)
    measure = next((measure for measure in BUDGET_UNITS if match.get(measure) is not None), None)
    if measure is None:
        return Cell(ABSENT, reason="no budget was asked for")
    achieved = match["achieved_parameters"] if match.get("achieved") is None else match["achieved"]
    text, unit = BUDGET_UNITS[measure]
    fixed = "" if match.get("option") else ", size not chosen"
    return Cell(f"{text(achieved)} of {text(match[measure])} {unit}{fixed}", achieved, condition.run_ids)


def _mean_cell(condition: Condition, split: Split) -> Cell:
    scores = estimate(list(condition.scores(split).values()))
    return Cell(mean_and_std(scores.mean, scores.std), scores.mean, condition.run_ids, scores.reason)


def _forest(scores: Estimate) -> tuple[float, float, float] | None:
    if scores.interval is None or scores.mean is None:
        return None
    return scores.interval[0], scores.mean, scores.interval[1]


def comparisons_table(analysis: Analysis) -> Table:
    """Return every paired difference with its interval and p-values."""
    columns = (
        *PLACE,
        Column("a", "a"),
        Column("b", "b"),
        Column("difference_mean", "a − b, points", True),
        Column("interval_95", "95 % interval", True),
        Column("num_pairs", "Pairs", True),
        Column("p_value", "p", True),
        Column("p_value_holm", "p, Holm", True),
        Column("sign_flip_p_value", "p, sign flip (least)", True),
    )
    caption = (
        "Test top-1, paired by seed. Interval and p by the paired t-test; Holm's correction is over this table; the "
        "exact sign-flip test stands beside the least p-value that so many pairs can give, where that is below 5 %."
    )
    rows = tuple(_comparison_row(row) for row in analysis.comparisons)
    return Table("comparisons", "Paired differences", caption, columns, rows)


def _comparison_row(row: Comparison) -> tuple[Cell, ...]:
    difference, runs = row.difference, row.run_ids
    return (
        *place_cells(row.a),
        Cell(row.a.label),
        Cell(row.b.label),
        Cell(points(difference.mean), difference.mean, runs, difference.reason),
        interval_cell(row),
        Cell(str(difference.num_pairs), difference.num_pairs, runs),
        Cell(p_value(difference.p_value), difference.p_value, runs, difference.reason),
        Cell(p_value(row.p_value_holm), row.p_value_holm, runs, difference.reason),
        Cell(sign_flip_text(difference), difference.sign_flip_p_value, runs),
    )


def sign_flip_text(difference: PairedDifference) -> str:
    """Return the permutation test's p-value beside the least it can give, or that it cannot reach 5 %."""
    if difference.sign_flip_p_value is None or difference.smallest_p_value is None:
        return ABSENT
    if difference.smallest_p_value >= SIGNIFICANCE:
        return f"too few seeds (needs {pairs_needed()})"
    return f"{p_value(difference.sign_flip_p_value)} ({p_value(difference.smallest_p_value)})"


def interval_cell(row: Comparison) -> Cell:
    """Return a paired interval with what is needed to draw it."""
    difference = row.difference
    forest = None
    if difference.interval is not None and difference.mean is not None:
        forest = difference.interval[0], difference.mean, difference.interval[1]
    text = points_interval(difference.interval)
    return Cell(text, as_raw(difference.interval), row.run_ids, difference.reason, forest)


def claims_table(analysis: Analysis) -> Table:
    """Return a row for every claim and setting."""
    columns = (
        Column("id", "Claim"),
        Column("verdict", "Verdict"),
        Column("pair_verdict", "This pair"),
        *PLACE,
        Column("a", "a"),
        Column("b", "b"),
        Column("difference_mean", "a − b, points", True),
        Column("interval_95", "95 % interval", True),
        Column("margin", "Margin", True),
        Column("num_pairs", "Pairs", True),
        Column("p_value", "p", True),
        Column("p_value_holm_claims", "p, Holm over the claims", True),
    )
    rows = tuple(row for verdict in analysis.verdicts for row in claim_rows(verdict))
    return Table("claims", "Claims", f"Stated in the study's YAML before any run; {RULE}.", columns, rows)


def claim_rows(verdict: Verdict) -> list[tuple[Cell, ...]]:
    """Return one row a setting; a claim without one has a row of absent numbers."""
    head = (Cell(verdict.claim.id), Cell(verdict.name))
    if not verdict.pairs:
        return [(*head, *(Cell(ABSENT, reason=verdict.reason) for _ in range(11)))]
    return [
        (
            *head,
            Cell(name),
            *place_cells(pair.a),
            Cell(pair.a.label),
            Cell(pair.b.label),
            Cell(points(pair.difference.mean), pair.difference.mean, pair.run_ids, pair.difference.reason),
            interval_cell(pair),
            Cell(points(verdict.claim.margin), verdict.claim.margin),
            Cell(str(pair.difference.num_pairs), pair.difference.num_pairs, pair.run_ids),
            Cell(p_value(alone), alone, pair.run_ids, pair.difference.reason),
            Cell(p_value(holm), holm, pair.run_ids, pair.difference.reason),
        )
        for pair, name, alone, holm in zip(
            verdict.pairs, verdict.pair_names, verdict.p_values, verdict.p_values_holm, strict=True
        )
    ]


def shown(table: Table) -> Table:
    """Return the table as it is read: backbone and data set go to the caption where they never change."""
    return without_constants(table, ("backbone", "dataset"))


def points_table(name: str, title: str, option: str, groups: Sequence[Sequence[Condition]]) -> Table:
    """Return the numbers behind a figure that varies one option: a row a condition, test and validation."""
    columns = (
        *PLACE,
        Column("condition", "Condition"),
        Column(option, option.capitalize(), option == "rank"),
        Column("validation_top1_mean", "Validation, %", True),
        Column("test_top1_mean", "Test, %", True),
        Column("interval_95", "Test 95 % interval", True),
        Column("num_seeds", "Seeds", True),
    )
    rows = tuple(_point_row(condition, option) for group in groups for condition in group)
    return Table(name, title, "Mean ± standard deviation over seeds; Student's t interval.", columns, rows)


def _point_row(condition: Condition, option: str) -> tuple[Cell, ...]:
    test, runs = estimate(list(condition.scores("test").values())), condition.run_ids
    return (
        *place_cells(condition),
        Cell(condition.label),
        Cell(str(condition.option(option)), condition.option(option)),
        _mean_cell(condition, "validation"),
        _mean_cell(condition, "test"),
        Cell(percent_interval(test.interval), as_raw(test.interval), runs, test.reason),
        Cell(str(test.num_seeds), test.num_seeds, runs),
    )
