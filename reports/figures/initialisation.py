"""Draws the first epochs by initialisation: validation accuracy, and the features' drift from the pretrained ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from benchmark.result import EpochRecord
from reports.analysis import Analysis
from reports.conditions import Condition
from reports.figures.drawing import (
    MARKERS,
    PANELS_PER_ROW,
    Drawing,
    colour_of,
    panel_title,
    panels,
    render,
    report_style,
)
from reports.formatting import ABSENT, percent
from reports.naming import method_title
from reports.result_tables import PLACE, place_cells, shown
from reports.tables import Cell, Column, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LAST_EPOCH = 10
"""The drift that an initialisation causes is over by then, or has become the training's."""

NAME, TITLE = "initialisation", "The first epochs by initialisation"
CAPTION = (
    "Line: mean over seeds; band: the lowest to the highest seed. Epoch 0 is the model before its first step. Drift is "
    "1 − mean cosine between the features and the pretrained model's, on fixed validation images."
)


def draw_initialisation(analysis: Analysis) -> Drawing:
    """Return early accuracy and drift for every family of conditions that differ in initialisation alone."""
    groups = [group for group in analysis.initialisations if _drawn(analysis, group)]
    if not groups:
        why = "no two conditions with stored epochs differ in initialisation alone"
        return Drawing(NAME, TITLE, left_out=why)
    with report_style():
        figure, (upper, lower) = panels(len(groups), num_rows_each=2, height=2.2)
        for top, bottom, group in zip(upper, lower, groups, strict=True):
            _panel(analysis, top, bottom, group)
        files = render(figure)
    table = shown(early_table(analysis, groups))
    spoken = " ".join([f"{TITLE}.", *(_spoken(analysis, group) for group in groups)])
    return Drawing(NAME, TITLE, CAPTION, spoken, table, files, num_panels=min(len(groups), PANELS_PER_ROW))


def early_values(analysis: Analysis, condition: Condition, field: str) -> dict[int, list[float]]:
    """Return a per-epoch field of a condition's completed seeds: finite values by epoch, up to `LAST_EPOCH`."""
    values: dict[int, list[float]] = {}
    for run_id in condition.run_ids:
        for record in analysis.curves.get(run_id, []):
            value = _value(record, field)
            if record.epoch <= LAST_EPOCH and value is not None:
                values.setdefault(record.epoch, []).append(value)
    return dict(sorted(values.items()))


def _value(record: EpochRecord, field: str) -> float | None:
    value = getattr(record, field)
    return float(value) if value is not None and np.isfinite(value) else None


def _drawn(analysis: Analysis, group: Sequence[Condition]) -> list[Condition]:
    """Return the conditions with stored epochs; empty when fewer than two have them."""
    drawn = [condition for condition in group if early_values(analysis, condition, "feature_drift")]
    return drawn if len(drawn) > 1 else []


def _panel(analysis: Analysis, top: Axes, bottom: Axes, group: Sequence[Condition]) -> None:
    from matplotlib.ticker import MaxNLocator

    for position, condition in enumerate(group):
        for axes, field, scale in ((top, "validation_top1", 100.0), (bottom, "feature_drift", 1.0)):
            _curve(axes, early_values(analysis, condition, field), scale, position, str(condition.option("init")))
    top.set(ylabel="validation top-1, %")
    top.set_title(panel_title(method_title(group[0].method), group[0].setting.backbone_title, group[0].setting.dataset))
    top.legend(title=None, loc="lower right")
    bottom.set(xlabel="epoch", ylabel="feature drift")
    bottom.set_ylim(bottom=min(0.0, bottom.get_ylim()[0]))
    for axes in (top, bottom):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _curve(axes: Axes, values: dict[int, list[float]], scale: float, position: int, label: str) -> None:
    epochs, colour = list(values), colour_of(position)
    means = [scale * float(np.mean(values[epoch])) for epoch in epochs]
    lows, highs = ([scale * pick(values[epoch]) for epoch in epochs] for pick in (min, max))
    axes.fill_between(epochs, list(lows), list(highs), color=colour, alpha=0.18, linewidth=0)
    axes.plot(epochs, means, color=colour, marker=MARKERS[position % len(MARKERS)], markersize=3.5, label=label)


def early_table(analysis: Analysis, groups: Sequence[Sequence[Condition]]) -> Table:
    """Return accuracy and drift before the first step, after the first epoch, and the largest early drift."""
    columns = (
        *PLACE,
        Column("condition", "Condition"),
        Column("validation_top1_epoch_0", "Validation at epoch 0, %", True),
        Column("validation_top1_epoch_1", "at epoch 1, %", True),
        Column("feature_drift_epoch_0", "Drift at epoch 0", True),
        Column("feature_drift_epoch_1", "at epoch 1", True),
        Column("largest_feature_drift", f"Largest to epoch {LAST_EPOCH}", True),
    )
    rows = tuple(_early_row(analysis, condition) for group in groups for condition in group)
    return Table("initialisation", TITLE, "Means over completed seeds.", columns, rows)


def _early_row(analysis: Analysis, condition: Condition) -> tuple[Cell, ...]:
    accuracy, drift = (_means(analysis, condition, field) for field in ("validation_top1", "feature_drift"))
    runs = condition.run_ids
    largest = max(drift.values(), default=None)
    return (
        *place_cells(condition),
        Cell(condition.label),
        *(Cell(percent(accuracy.get(epoch)), accuracy.get(epoch), runs) for epoch in (0, 1)),
        *(Cell(_drift(drift.get(epoch)), drift.get(epoch), runs) for epoch in (0, 1)),
        Cell(_drift(largest), largest, runs),
    )


def _means(analysis: Analysis, condition: Condition, field: str) -> dict[int, float]:
    return {epoch: float(np.mean(values)) for epoch, values in early_values(analysis, condition, field).items()}


def _drift(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.4f}"


def _spoken(analysis: Analysis, group: Sequence[Condition]) -> str:
    told = []
    for condition in group:
        drift = _means(analysis, condition, "feature_drift")
        told.append(f"init {condition.option('init')}: {_drift(drift.get(0))}, then {_drift(drift.get(1))}")
    where = f"{method_title(group[0].method)} on {group[0].setting.name}"
    return f"{where}, feature drift at epoch 0 and 1: {'; '.join(told)}."
