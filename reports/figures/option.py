"""Draws accuracy against one option of the method: the rank curve on a logarithmic axis, placement row by row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from reports.analysis import Analysis
from reports.conditions import Condition, Split
from reports.figures.drawing import (
    BLUE,
    INK,
    MOST_SEEDS_DRAWN,
    ORANGE,
    PANELS_PER_ROW,
    PAPER,
    Drawing,
    SeedMark,
    SeedMarks,
    as_percent,
    first_panels,
    panel_title,
    panels,
    render,
    report_style,
)
from reports.formatting import percent
from reports.naming import method_title, placement_title
from reports.rank import RankCurve
from reports.result_tables import points_table, shown
from reports.statistics import estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SPLITS: tuple[tuple[Split, str, str], ...] = (("validation", ORANGE, "s"), ("test", BLUE, "o"))

CAPTION = (
    "Large marks: mean over seeds, with the 95 % interval of Student's t; small marks: single seeds, "
    f"{MOST_SEEDS_DRAWN} of a condition at most."
)


def draw_rank(analysis: Analysis) -> Drawing:
    """Return the rank curve of every family of conditions that differ in rank alone."""
    name, title = "rank", "Accuracy against rank"
    curves = [curve for curve in analysis.rank_curves if any(condition.completed for condition in curve.conditions)]
    if not curves:
        return Drawing(name, title, left_out="no two completed conditions differ in rank alone")
    drawn, rest = first_panels(curves)
    marks = SeedMarks(num_seed_marks([curve.conditions for curve in drawn]))
    with report_style():
        figure, ((*axes,),) = panels(len(drawn))
        for panel, curve in zip(axes, drawn, strict=True):
            _rank_panel(panel, curve, marks)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=3)
        files = render(figure)
    return Drawing(
        name=name,
        title=title,
        caption=f"{CAPTION} A dashed line marks an elbow, chosen on validation.{rest}",
        alternative=" ".join([title + ".", *(f"{_spoken(curve.conditions, 'rank')}" for curve in drawn)]),
        table=shown(points_table("rank_curve", title, "rank", [curve.conditions for curve in curves])),
        files=files,
        num_panels=min(len(curves), PANELS_PER_ROW),
        marks=marks,
    )


def _rank_panel(axes: Axes, curve: RankCurve, marks: SeedMarks) -> None:
    axes.set_xscale("log", base=2)
    for shift, (split, colour, marker) in zip((1 / 1.03, 1.03), SPLITS, strict=True):
        scored = [condition for condition in curve.conditions if condition.scores(split)]
        ranks = [condition.option("rank") * shift for condition in scored]
        _series(axes, scored, ranks, split, colour, marker, marks)
    _mark_elbow(axes, curve)
    ranks = [condition.option("rank") for condition in curve.conditions]
    axes.set_xticks(ranks, [str(rank) for rank in ranks], minor=False)
    axes.set_xticks([], minor=True)
    axes.set(xlabel="rank", ylabel="top-1, %")
    setting = curve.conditions[0].setting
    axes.set_title(panel_title(curve.label, setting.backbone, setting.dataset))


def _mark_elbow(axes: Axes, curve: RankCurve) -> None:
    if curve.elbow is None:
        return
    rank = curve.elbow.option("rank")
    place: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "fontsize": 8}
    if curve.is_levelled_off:
        axes.axvline(rank, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        axes.annotate(f"elbow {rank}", (rank, 0.03), xytext=(4, 0), **place)
    else:
        axes.annotate(f"no elbow up to {rank}", (rank, 0.03), xytext=(4, 0), ha="right", **place)


def seed_marks(condition: Condition, split: Split) -> list[tuple[float, SeedMark]]:
    """Return every seed's score in percent, with what its mark says and the run it opens."""
    return [
        (100 * score, SeedMark(f"{condition.label}, seed {one.seed}: {percent(score)} % {split}", one.run_id))
        for one in condition.completed
        if (score := one.score(split)) is not None
    ]


def num_seed_marks(groups: Sequence[Sequence[Condition]]) -> int:
    """Return how many seeds' scores a figure of these conditions has, on both splits."""
    return sum(len(condition.scores(split)) for group in groups for condition in group for split, _, _ in SPLITS)


def _series(
    axes: Axes,
    scored: Sequence[Condition],
    positions: Sequence[float],
    split: Split,
    colour: str,
    marker: str,
    marks: SeedMarks,
) -> None:
    """Draw means joined by a line, intervals as bars and seeds as small marks."""
    means = as_percent([estimate(list(condition.scores(split).values())).mean or 0.0 for condition in scored])
    style = {"color": colour, "marker": marker, "markersize": 5, "markeredgecolor": PAPER, "markeredgewidth": 0.6}
    axes.plot(positions, means, label=split, zorder=3, **style)  # type: ignore[arg-type]
    bars = []
    for condition, position in zip(scored, positions, strict=True):
        interval = estimate(list(condition.scores(split).values())).interval
        bars += [(position, *as_percent(interval))] if interval is not None else []
        seeds = [(position, score, mark) for score, mark in seed_marks(condition, split)]
        marks.scatter(axes, seeds, color=colour, alpha=0.5, markersize=4, zorder=2)
    # One artist for all: hundreds of lines of their own take seconds.
    if bars:
        axes.vlines(*zip(*bars, strict=True), color=colour, linewidth=1.1, zorder=2)


def draw_placement(analysis: Analysis) -> Drawing:
    """Return accuracy by placement for every family of conditions that differ in placement alone."""
    title = "Accuracy by placement"
    return draw_option(analysis.placements, "placement", title)


def draw_option(families: Sequence[Sequence[Condition]], option: str, title: str) -> Drawing:
    """Return accuracy by an option that has names for values: a row a value, test above validation."""
    groups = [group for group in families if any(condition.completed for condition in group)]
    if not groups:
        return Drawing(option, title, left_out=f"no two completed conditions differ in {option} alone")
    drawn, rest = first_panels(groups)
    marks = SeedMarks(num_seed_marks(drawn))
    height = 1.25 + 0.42 * max(len(group) for group in drawn)
    with report_style():
        figure, ((*axes,),) = panels(len(drawn), height=height)
        for panel, group in zip(axes, drawn, strict=True):
            _option_panel(panel, group, option, marks)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=3)
        files = render(figure)
    spoken = " ".join([title + ".", *(_spoken(group, option) for group in drawn)])
    table = shown(points_table(option, title, option, groups))
    num_panels = min(len(groups), PANELS_PER_ROW)
    return Drawing(option, title, CAPTION + rest, spoken, table, files, num_panels=num_panels, marks=marks)


def _option_panel(axes: Axes, group: Sequence[Condition], option: str, marks: SeedMarks) -> None:
    rows = list(range(len(group)))[::-1]
    for offset, (split, colour, marker) in zip((-0.14, 0.14), SPLITS, strict=True):
        label: str | None = split
        for row, condition in zip(rows, group, strict=True):
            values = list(condition.scores(split).values())
            scores = estimate(values)
            if scores.mean is None:
                continue
            if scores.interval is not None:
                axes.plot(as_percent(scores.interval), [row + offset] * 2, color=colour, linewidth=1.1)
            seeds = [(score, row + offset, mark) for score, mark in seed_marks(condition, split)]
            marks.scatter(axes, seeds, color=colour, alpha=0.5, markersize=4)
            style = {"color": colour, "markeredgecolor": PAPER, "markeredgewidth": 0.6, "markersize": 6}
            axes.plot([100 * scores.mean], [row + offset], marker, label=label, **style)  # type: ignore[arg-type]
            label = None
    axes.set_yticks(rows, [option_title(condition, option) for condition in group])
    axes.set_ylim(-0.6, len(group) - 0.4)
    axes.grid(visible=False, axis="y")
    axes.set(xlabel="top-1, %")
    axes.set_title(
        panel_title(method_title(group[0].method), group[0].setting.backbone_title, group[0].setting.dataset)
    )


def option_title(condition: Condition, option: str) -> str:
    """Return the value of an option as a reader names it."""
    value = str(condition.option(option))
    return placement_title(value) if option == "placement" else f"{option} {value}"


def _spoken(group: Sequence[Condition], option: str) -> str:
    """Return the test means of a group in words."""
    means = [
        f"{option_title(condition, option)}: {percent(estimate(list(condition.scores('test').values())).mean)} %"
        for condition in group
    ]
    return (
        f"{method_title(group[0].method)} on {group[0].setting.name}, mean test top-1 by {option}: {'; '.join(means)}."
    )
