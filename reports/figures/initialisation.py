"""Draws the start by initialisation: accuracy and the features' drift by epoch, the loss by optimiser step."""

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
    first_panels,
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

TOLD_STEPS = (1, 10, 100)
"""The optimiser steps whose loss stands in the table."""

LAST_EPOCH = 10
"""The drift that an initialisation causes is over by then, or has become the training's."""

NAME, TITLE = "initialisation", "The first epochs by initialisation"
CAPTION = (
    "Line: mean over seeds; band: the lowest to the highest seed. Epoch 0 is the model before its first step. Drift is "
    "1 − mean cosine between the features and the pretrained model's, on fixed validation images."
)
STEP_CAPTION = " Below, the training loss of each of the first optimiser steps."


def draw_initialisation(analysis: Analysis) -> Drawing:
    """Return early accuracy and drift for every family of conditions that differ in initialisation alone."""
    groups = [group for group in analysis.initialisations if _drawn(analysis, group)]
    if not groups:
        why = "no two conditions with stored epochs differ in initialisation alone"
        return Drawing(NAME, TITLE, left_out=why)
    has_steps = any(first_losses(analysis, condition) for group in groups for condition in group)
    drawn, rest = first_panels(groups)
    caption = CAPTION + (STEP_CAPTION if has_steps else "") + rest
    with report_style():
        figure, (upper, lower, *lowest) = panels(len(drawn), num_rows_each=3 if has_steps else 2, height=2.2)
        for top, bottom, group in zip(upper, lower, drawn, strict=True):
            _panel(analysis, top, bottom, group)
        for axes, group in zip(lowest[0] if lowest else [], drawn, strict=bool(lowest)):
            _step_panel(analysis, axes, group)
        files = render(figure)
    table = shown(early_table(analysis, groups))
    spoken = " ".join([f"{TITLE}.", *(_spoken(analysis, group) for group in drawn)])
    return Drawing(NAME, TITLE, caption, spoken, table, files, num_panels=min(len(groups), PANELS_PER_ROW))


def early_values(analysis: Analysis, condition: Condition, field: str) -> dict[int, list[float]]:
    """Return a per-epoch field of a condition's completed seeds: finite values by epoch, up to `LAST_EPOCH`."""
    values: dict[int, list[float]] = {}
    for run_id in condition.run_ids:
        for record in analysis.curves.get(run_id, []):
            value = _value(record, field)
            if record.epoch <= LAST_EPOCH and value is not None:
                values.setdefault(record.epoch, []).append(value)
    return dict(sorted(values.items()))


def first_losses(analysis: Analysis, condition: Condition) -> dict[int, list[float]]:
    """Return the training loss of a condition's completed seeds: finite values by optimiser step, from 1."""
    values: dict[int, list[float]] = {}
    for run_id in condition.run_ids:
        for step, loss in enumerate(analysis.first_losses.get(run_id, []), 1):
            if np.isfinite(loss):
                values.setdefault(step, []).append(loss)
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


def _step_panel(analysis: Analysis, axes: Axes, group: Sequence[Condition]) -> None:
    for position, condition in enumerate(group):
        label = str(condition.option("init"))
        _curve(axes, first_losses(analysis, condition), 1.0, position, label, has_markers=False)
    axes.set(xlabel="optimiser step", ylabel="training loss")


def _curve(
    axes: Axes, values: dict[int, list[float]], scale: float, position: int, label: str, has_markers: bool = True
) -> None:
    """Draw the mean over seeds as a line, and the lowest to the highest seed as a band."""
    places, colour = list(values), colour_of(position)
    means = [scale * float(np.mean(values[place])) for place in places]
    lows, highs = ([scale * pick(values[place]) for place in places] for pick in (min, max))
    axes.fill_between(places, list(lows), list(highs), color=colour, alpha=0.18, linewidth=0)
    marker = MARKERS[position % len(MARKERS)] if has_markers else ""
    axes.plot(places, means, color=colour, marker=marker, markersize=3.5, label=label)


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
        *(Column(f"train_loss_step_{step}", f"Loss at step {step}", True) for step in TOLD_STEPS),
    )
    rows = tuple(_early_row(analysis, condition) for group in groups for condition in group)
    return Table("initialisation", TITLE, "Means over completed seeds.", columns, rows)


def _early_row(analysis: Analysis, condition: Condition) -> tuple[Cell, ...]:
    accuracy, drift = (_means(analysis, condition, field) for field in ("validation_top1", "feature_drift"))
    losses = {step: float(np.mean(values)) for step, values in first_losses(analysis, condition).items()}
    runs = condition.run_ids
    largest = max(drift.values(), default=None)
    return (
        *place_cells(condition),
        Cell(condition.label),
        *(Cell(percent(accuracy.get(epoch)), accuracy.get(epoch), runs) for epoch in (0, 1)),
        *(Cell(_drift(drift.get(epoch)), drift.get(epoch), runs) for epoch in (0, 1)),
        Cell(_drift(largest), largest, runs),
        *(Cell(_loss(losses.get(step)), losses.get(step), runs) for step in TOLD_STEPS),
    )


def _means(analysis: Analysis, condition: Condition, field: str) -> dict[int, float]:
    return {epoch: float(np.mean(values)) for epoch, values in early_values(analysis, condition, field).items()}


def _drift(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.4f}"


def _loss(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.3f}"


def _spoken(analysis: Analysis, group: Sequence[Condition]) -> str:
    told = []
    for condition in group:
        drift = _means(analysis, condition, "feature_drift")
        told.append(f"init {condition.option('init')}: {_drift(drift.get(0))}, then {_drift(drift.get(1))}")
    where = f"{method_title(group[0].method)} on {group[0].setting.name}"
    return f"{where}, feature drift at epoch 0 and 1: {'; '.join(told)}."
