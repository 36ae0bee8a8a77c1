"""The report's tables on ranks: elbows with their confidence, and the numbers behind the fits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reports.analysis import Analysis
from reports.conditions import Condition
from reports.formatting import ABSENT, p_value, percent, points
from reports.rank import RankCurve, recommendation
from reports.result_tables import PLACE, as_raw, place_cells
from reports.tables import Cell, Column, Table


def elbows_table(analysis: Analysis) -> Table:
    """Return the elbow of every rank curve."""
    columns = (
        *PLACE,
        Column("curve", "Curve"),
        Column("ranks", "Ranks"),
        Column("elbow_rank", "Elbow", True),
        Column("elbow_rank_interval_95", "Elbow, 95 %", True),
        Column("confidence", "Confidence, %", True),
        Column("best_rank", "Best", True),
        Column("trend_p_value", "p, rising", True),
        Column("recommendation", "Recommendation"),
    )
    caption = (
        "The elbow is the smallest rank whose mean validation top-1 lies within one point of the best rank's; test has "
        "no part in the choice. Confidence: how often it is chosen among 4000 draws of the means, by Student's t over "
        "paired seeds, by resampling them from 10 seeds up. Rising: Page's trend test, seeds as blocks, one-sided."
    )
    return Table("elbows", "Elbows", caption, columns, tuple(_elbow_row(curve) for curve in analysis.rank_curves))


def _elbow_row(curve: RankCurve) -> tuple[Cell, ...]:
    runs = tuple(run_id for condition in curve.conditions for run_id in condition.run_ids)
    elbow = curve.elbow.option("rank") if curve.elbow and curve.is_levelled_off else None
    why_none = curve.caution or f"none up to rank {curve.conditions[-1].option('rank')}"
    best = curve.best.option("rank") if curve.best else None
    return (
        *place_cells(curve.conditions[0]),
        Cell(curve.label),
        Cell(", ".join(str(condition.option("rank")) for condition in curve.conditions)),
        Cell(ABSENT if elbow is None else str(elbow), elbow, runs, curve.caution if elbow else why_none),
        _elbow_interval_cell(curve, runs),
        Cell(percent(curve.confidence), curve.confidence, runs, None if curve.confidence else curve.evidence.reason),
        Cell(ABSENT if best is None else str(best), best, runs, curve.caution),
        _trend_cell(curve, runs),
        Cell(recommendation(curve)),
    )


def _elbow_interval_cell(curve: RankCurve, runs: tuple[str, ...]) -> Cell:
    if curve.elbow_interval is None:
        return Cell(ABSENT, reason=curve.evidence.reason)
    low, high = curve.elbow_interval
    return Cell(f"{low} to {high}", as_raw((low, high)), runs)


def _trend_cell(curve: RankCurve, runs: tuple[str, ...]) -> Cell:
    """Return the p-value of a rise, and the largest fall as a remark: a trend may rise and still fall in between."""
    trend = curve.evidence.trend
    if trend is None:
        return Cell(ABSENT, reason=curve.evidence.reason)
    remark = None
    if trend.falls_after is not None:
        before, after = curve.evidence.ranks[trend.falls_after : trend.falls_after + 2]
        remark = f"not monotone: {points(-trend.largest_fall)} points from rank {before} to {after}"
    return Cell(p_value(trend.p_value), trend.p_value, runs, remark)


def excess_risk_table(curves: Sequence[RankCurve], title: str) -> Table:
    """Return a row a rank: the validation error, what either fit leaves of it, and its two parts."""
    columns = (
        *PLACE,
        Column("curve", "Curve"),
        Column("rank", "Rank", True),
        Column("validation_error", "Validation error, %", True),
        Column("approximation", "Approximation, %", True),
        Column("estimation", "Estimation, %", True),
        Column("residual", "Residual, points", True),
        Column("saturating_residual", "Residual of the saturating fit, points", True),
    )
    rows = tuple(row for curve in curves for row in _excess_risk_rows(curve))
    caption = "Approximation and estimation stand on top of the fitted floor; residual: observed less fitted."
    return Table("excess_risk", title, caption, columns, rows)


def _excess_risk_rows(curve: RankCurve) -> list[tuple[Cell, ...]]:
    evidence, by_rank = curve.evidence, {condition.option("rank"): condition for condition in curve.conditions}
    fit, saturating = evidence.excess_risk, evidence.saturating
    assert fit is not None and saturating is not None, "both are fitted or neither"
    ranks = np.array(fit.ranks)
    parts = zip(evidence.ranks, fit.approximation(ranks), fit.estimation(ranks), fit.error(ranks), strict=True)
    rows = []
    for (rank, falling, growing, fitted), left, other in zip(parts, fit.residuals, saturating.residuals, strict=True):
        condition: Condition = by_rank[rank]
        runs, error = condition.run_ids, float(fitted) + left
        texts = (percent(error), percent(falling), percent(growing), points(left), points(other))
        values = (error, float(falling), float(growing), left, other)
        numbers = [Cell(text, value, runs) for text, value in zip(texts, values, strict=True)]
        rows.append((*place_cells(condition), Cell(curve.label), Cell(str(rank), rank), *numbers))
    return rows
