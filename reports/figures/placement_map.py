"""Draws which blocks hold an adapter, each placement's row coloured by its accuracy, the best above."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from benchmark.methods.parts.placement import blocks_of, is_placement
from reports.analysis import Analysis
from reports.conditions import Condition, Split, is_search
from reports.figures.drawing import (
    INK,
    PANELS_PER_ROW,
    Drawing,
    first_panels,
    panel_title,
    panels,
    render,
    report_style,
)
from reports.formatting import mean_and_std, percent
from reports.naming import method_title, num_blocks, placement_title
from reports.result_tables import PLACE, place_cells, shown
from reports.statistics import estimate
from reports.tables import Cell, Column, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME, TITLE = "placement_map", "Blocks with an adapter, by accuracy"

CAPTION = (
    "A row a placement, the best mean above; a coloured square is a block with an adapter, blocks counted from 0. The "
    "colour is the row's mean accuracy, from the lowest (dark) to the highest (bright) of its panel; beside it mean ± "
    "standard deviation over seeds."
)

FEWEST_PLACEMENTS = 3
"""Below that a map says no more than two numbers do."""


def draw_placement_map(analysis: Analysis) -> Drawing:
    """Return a map of blocks against accuracy for every family of conditions that differ in placement alone."""
    split: Split = "validation" if is_search(analysis.study) else "test"
    groups = [group for family in analysis.placements if len(group := ranked(family, split)) >= FEWEST_PLACEMENTS]
    if not groups:
        why = f"no {FEWEST_PLACEMENTS} completed placements on a backbone whose number of blocks is known"
        return Drawing(NAME, TITLE, left_out=why)
    drawn, rest = first_panels(groups)
    height = 1.1 + 0.34 * max(len(group) for group in drawn)
    with report_style():
        figure, ((*axes,),) = panels(len(drawn), height=height)
        for panel, group in zip(axes, drawn, strict=True):
            _panel(panel, group, split)
        files = render(figure)
    spoken = " ".join([f"{TITLE}.", *(_spoken(group, split) for group in drawn)])
    num_panels = min(len(groups), PANELS_PER_ROW)
    return Drawing(NAME, TITLE, CAPTION + rest, spoken, shown(map_table(groups, split)), files, num_panels=num_panels)


def ranked(family: Sequence[Condition], split: Split) -> list[Condition]:
    """Return the scored conditions whose blocks are known, the best mean first."""
    known = [condition for condition in family if condition.scores(split) and blocks(condition) is not None]
    return sorted(known, key=lambda condition: -_mean(condition, split))


def blocks(condition: Condition) -> tuple[int, ...] | None:
    """Return the numbers of the blocks that hold an adapter; none where the backbone's depth is unknown."""
    depth, placement = num_blocks(condition.setting.backbone), str(condition.option("placement"))
    return blocks_of(placement, depth) if depth is not None and is_placement(placement) else None


def _mean(condition: Condition, split: Split) -> float:
    return estimate(list(condition.scores(split).values())).mean or 0.0


def _panel(axes: Axes, group: Sequence[Condition], split: Split) -> None:
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    depth = num_blocks(group[0].setting.backbone) or 0
    grid = np.full((len(group), depth), np.nan)
    for row, condition in enumerate(group):
        grid[row, list(blocks(condition) or ())] = _mean(condition, split)
    axes.grid(visible=False)
    # Cividis without its darkest third, which a dark page swallows.
    colours = ListedColormap(colormaps["cividis"](np.linspace(0.35, 1.0, 128)))
    # Edges in the ink of the axes, thinned: they read on a light and on a dark page.
    axes.pcolormesh(np.ma.masked_invalid(grid), cmap=colours, edgecolors=INK, linewidth=0.3)
    for row, condition in enumerate(group):
        scores = estimate(list(condition.scores(split).values()))
        axes.annotate(mean_and_std(scores.mean, scores.std), (depth + 0.3, row + 0.5), va="center", fontsize=8)
    axes.set_xlim(0, depth + max(3.0, 0.42 * depth))
    axes.set_ylim(len(group), 0)
    axes.set_xticks(np.arange(depth) + 0.5, [str(block) for block in range(depth)], fontsize=7)
    axes.set_yticks(np.arange(len(group)) + 0.5, [placement_title(str(one.option("placement"))) for one in group])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(f"block ({split} top-1, % beside)", loc="left")
    setting = group[0].setting
    axes.set_title(panel_title(method_title(group[0].method), setting.backbone_title, setting.dataset))


def map_table(groups: Sequence[Sequence[Condition]], split: Split) -> Table:
    """Return the numbers behind the map: a row a placement, its blocks, its accuracy."""
    columns = (
        *PLACE,
        Column("condition", "Condition"),
        Column("blocks", "Blocks with an adapter"),
        Column("num_blocks", "How many", True),
        Column(f"{split}_top1_mean", f"{split.capitalize()} top-1, %", True),
    )
    rows = tuple(_row(condition, split) for group in groups for condition in group)
    return Table(NAME, TITLE, "Mean ± standard deviation over seeds, the best mean first.", columns, rows)


def _row(condition: Condition, split: Split) -> tuple[Cell, ...]:
    scores, numbers = estimate(list(condition.scores(split).values())), blocks(condition) or ()
    return (
        *place_cells(condition),
        Cell(condition.label),
        Cell(" ".join(str(number) for number in numbers)),
        Cell(str(len(numbers)), len(numbers)),
        Cell(mean_and_std(scores.mean, scores.std), scores.mean, condition.run_ids, scores.reason),
    )


def _spoken(group: Sequence[Condition], split: Split) -> str:
    told = [f"{placement_title(str(one.option('placement')))}: {percent(_mean(one, split))} %" for one in group]
    where = f"{method_title(group[0].method)} on {group[0].setting.name}"
    return f"{where}, mean {split} top-1, best first: {'; '.join(told)}."
