"""The paper's stated figures over many pairs of data set and backbone, beside the same figures from this study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from benchmark.spec import Scalar
from reports.analysis import Analysis
from reports.conditions import Condition, is_search
from reports.formatting import percent, points
from reports.paper_table import CITED, MISSING
from reports.published import Published, Quantity, StatedFigure, bare_backbone, published, selects
from reports.tables import Cell, Column, Table

NAME, TITLE = "paper_figures", "The paper's figures over all pairs"

ADAPTERTUNE: dict[str, Scalar] = {"method": "adaptertune", "rank": 16, "placement": "all", "init": "zero"}

TITLES: dict[Quantity, str] = {
    "mean_gain_over_head": "AdapterTune − head only, mean test top-1, points",
    "wins_over_head": "Pairs where AdapterTune's mean is above head only's",
    "wins_over_full": "Pairs where AdapterTune's mean is above full fine-tuning's",
    "trained_share_of_full": "AdapterTune's trained parameters, % of full fine-tuning's",
}

RIVALS: dict[Quantity, str] = {
    "mean_gain_over_head": "head_only",
    "wins_over_head": "head_only",
    "wins_over_full": "full_finetune",
    "trained_share_of_full": "full_finetune",
}

COLUMNS = (
    Column("quantity", "Figure"),
    Column("num_pairs", "Pairs measured"),
    Column("measured", "This study", True),
    Column("published", "Published", True),
    Column("where", "Stated in"),
)

CAPTION = (
    "AdapterTune at rank 16 in every block, zero-initialised, as in the paper's comparison. A figure is missing until "
    "all of its pairs are measured. The published figures are cited."
)


@dataclass(frozen=True)
class Measured:
    """A figure's values, one a pair of data set and backbone that has both sides, and the runs behind them."""

    values: list[float]
    run_ids: tuple[str, ...]


def paper_figures_table(analysis: Analysis, known: Published | None = None) -> Table:
    """Return a row for every stated figure whose pairs the study plans; no row for other studies."""
    known = known or published()
    sides = _sides(analysis.conditions)
    rows = [] if is_search(analysis.study) else [_row(figure, sides, known) for figure in known.stated]
    return Table(NAME, TITLE, CAPTION, COLUMNS, tuple(row for row in rows if row is not None))


Sides = dict[tuple[str, str], dict[str, Condition]]
"""The conditions of a pair (bare backbone, data set): AdapterTune as in the paper, head only, full fine-tuning."""


def _sides(conditions: Sequence[Condition]) -> Sides:
    sides: Sides = {}
    for condition in conditions:
        if condition.method in ("head_only", "full_finetune") or selects(ADAPTERTUNE, condition.spec):
            pair = bare_backbone(condition.spec), condition.setting.dataset
            sides.setdefault(pair, {}).setdefault(condition.method, condition)
    return sides


def _row(figure: StatedFigure, sides: Sides, known: Published) -> tuple[Cell, ...] | None:
    pairs, rival = known.pairs(figure.pairs), RIVALS[figure.quantity]
    planned = [sides[pair] for pair in pairs if {"adaptertune", rival} <= sides.get(pair, {}).keys()]
    if len(planned) < len(pairs):
        return None
    found = measure(figure.quantity, [(one["adaptertune"], one[rival]) for one in planned])
    cell = Cell(MISSING, reason=f"{len(pairs) - len(found.values)} of {len(pairs)} pairs have no result yet")
    if len(found.values) == len(pairs):
        value = summarised(figure.quantity, found.values)
        cell = Cell(_written(figure.quantity, value, len(pairs)), value, found.run_ids)
    stated = Cell(_written(figure.quantity, figure.value, len(pairs)), figure.value, mark=CITED)
    measured = Cell(f"{len(found.values)} of {len(pairs)}")
    return Cell(TITLES[figure.quantity]), measured, cell, stated, Cell(f"{known.paper}, {figure.where}")


def measure(quantity: Quantity, pairs: Sequence[tuple[Condition, Condition]]) -> Measured:
    """Return a figure's value for every pair (AdapterTune, rival) where both sides have a result."""
    values, runs = [], []
    for ours, rival in pairs:
        value = _share(ours, rival) if quantity == "trained_share_of_full" else _gain(ours, rival)
        if value is not None:
            values.append(value)
            runs += [*ours.run_ids, *rival.run_ids]
    return Measured(values, tuple(runs))


def summarised(quantity: Quantity, values: Sequence[float]) -> float:
    """Return the mean over pairs, or the number of pairs that are won."""
    return sum(value > 0 for value in values) if quantity.startswith("wins") else fmean(values)


def _gain(ours: Condition, rival: Condition) -> float | None:
    scores = ours.scores("test"), rival.scores("test")
    return fmean(scores[0].values()) - fmean(scores[1].values()) if all(scores) else None


def _share(ours: Condition, rival: Condition) -> float | None:
    trained, all_trained = ours.num_trainable_parameters(), rival.num_trainable_parameters()
    return trained / all_trained if trained and all_trained else None


def _written(quantity: Quantity, value: float, num_pairs: int) -> str:
    if quantity.startswith("wins"):
        return f"{value:.0f} of {num_pairs}"
    return points(value) if quantity == "mean_gain_over_head" else percent(value)
