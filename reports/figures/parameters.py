"""Draws test accuracy against the number of trained parameters: one panel a backbone and data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from reports.analysis import Analysis
from reports.conditions import Condition, Split, is_search
from reports.fields import Setting
from reports.figures.drawing import (
    MARKERS,
    PANELS_PER_ROW,
    PAPER,
    Drawing,
    as_percent,
    colour_of,
    first_panels,
    panel_title,
    panels,
    render,
    report_style,
)
from reports.formatting import count, mean_and_std, percent
from reports.naming import method_title
from reports.result_tables import PLACE, place_cells, shown
from reports.statistics import estimate
from reports.tables import Cell, Column, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME, TITLE = "parameters", "Accuracy against trained parameters"


def draw_parameters(analysis: Analysis) -> Drawing:
    """Return every condition by its trained parameters (logarithmic) and its accuracy."""
    split: Split = "validation" if is_search(analysis.study) else "test"
    groups: dict[Setting, list[Condition]] = {}
    for condition in analysis.conditions:
        if condition.num_trainable_parameters() and condition.scores(split):
            groups.setdefault(condition.setting, []).append(condition)
    if not any(len(group) > 1 for group in groups.values()):
        return Drawing(NAME, TITLE, left_out="no backbone and data set has two completed conditions with their costs")
    methods = list(dict.fromkeys(condition.method for group in groups.values() for condition in group))
    drawn, rest = first_panels(list(groups.values()))
    with report_style():
        figure, ((*axes,),) = panels(len(drawn), height=3.0)
        for panel, group in zip(axes, drawn, strict=True):
            _panel(panel, group, methods, split)
        _legend(figure, axes, len(methods))
        files = render(figure)
    caption = (
        "Mean over seeds with the 95 % interval of Student's t; the axis of parameters is logarithmic and counts the "
        f"head. Upper left is better: more accuracy from fewer parameters.{rest}"
    )
    table = shown(parameters_table(groups, split))
    spoken = " ".join([f"{TITLE}.", *(_spoken(group[0].setting, group, split) for group in drawn)])
    return Drawing(NAME, TITLE, caption, spoken, table, files, num_panels=min(len(groups), PANELS_PER_ROW))


def _legend(figure: object, axes: Sequence[Axes], num_methods: int) -> None:
    handles = {
        label: handle for panel in axes for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    num_columns = min(num_methods, 4 if len(axes) > 1 else 3)
    figure.legend(handles.values(), handles.keys(), loc="outside upper right", ncols=num_columns)  # type: ignore[attr-defined]


def _panel(axes: Axes, group: Sequence[Condition], methods: Sequence[str], split: Split) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axes.set_xscale("log")
    labelled: set[str] = set()
    for condition in group:
        position = methods.index(condition.method)
        scores = estimate(list(condition.scores(split).values()))
        parameters, colour = condition.num_trainable_parameters() or 0, colour_of(position)
        if scores.interval is not None:
            axes.plot([parameters] * 2, as_percent(scores.interval), color=colour, linewidth=1.1)
        label = None if condition.method in labelled else method_title(condition.method)
        labelled.add(condition.method)
        style = {"color": colour, "markeredgecolor": PAPER, "markeredgewidth": 0.6, "markersize": 6.5}
        marker = MARKERS[position % len(MARKERS)]
        axes.plot([parameters], as_percent([scores.mean or 0.0]), marker, label=label, **style)  # type: ignore[arg-type]
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.12)
    axes.set(xlabel="trained parameters", ylabel=f"{split} top-1, %")
    axes.set_title(panel_title("", group[0].setting.backbone_title, group[0].setting.dataset))


def short_count(value: float) -> str:
    """Return a count as an axis shows it: 650, 10 k, 86 M."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def parameters_table(groups: Mapping[Setting, Sequence[Condition]], split: Split) -> Table:
    """Return the numbers behind the figure, a row a condition."""
    columns = (
        *PLACE,
        Column("condition", "Condition"),
        Column("num_trainable_parameters", "Trained parameters", True),
        Column(f"{split}_top1_mean", f"{split.capitalize()} top-1, %", True),
    )
    rows = tuple(_row(condition, split) for group in groups.values() for condition in group)
    return Table("parameters", TITLE, "Mean ± standard deviation over seeds.", columns, rows)


def _row(condition: Condition, split: Split) -> tuple[Cell, ...]:
    scores, parameters = estimate(list(condition.scores(split).values())), condition.num_trainable_parameters()
    return (
        *place_cells(condition),
        Cell(condition.label),
        Cell(count(parameters), parameters, condition.run_ids),
        Cell(mean_and_std(scores.mean, scores.std), scores.mean, condition.run_ids, scores.reason),
    )


def _spoken(setting: Setting, group: Sequence[Condition], split: Split) -> str:
    told = [
        f"{condition.label}: {count(condition.num_trainable_parameters())} parameters, "
        f"{percent(estimate(list(condition.scores(split).values())).mean)} %"
        for condition in group
    ]
    return f"{setting.name}: {'; '.join(told)}."
