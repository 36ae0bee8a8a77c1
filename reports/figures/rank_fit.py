"""Draws the validation error over ranks, split into what a larger rank removes and what it adds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from reports.analysis import Analysis
from reports.figures.drawing import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    PANELS_PER_ROW,
    PAPER,
    VERMILLION,
    Drawing,
    as_percent,
    first_panels,
    panel_title,
    panels,
    render,
    report_style,
)
from reports.formatting import percent
from reports.rank import RankCurve
from reports.rank_tables import excess_risk_table
from reports.result_tables import shown
from reports.statistics import estimate
from reports.statistics.rank_curve import FEWEST_RANKS_FOR_FIT, ErrorFit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME, TITLE = "excess_risk", "Error against rank: approximation and estimation"

CAPTION = (
    "Squares: mean validation error over seeds, with the 95 % interval of Student's t. Lines: the least-squares fit "
    "floor + A · r^(−c) + B · r, none of them negative, and its parts: approximation error falls with the rank, "
    "estimation error grows with the number of trained parameters. A fit through few ranks describes them and proves "
    "no cause."
)


def draw_excess_risk(analysis: Analysis) -> Drawing:
    """Return the fit of every rank curve that has ranks enough."""
    curves = [curve for curve in analysis.rank_curves if curve.evidence.excess_risk is not None]
    if not curves:
        return Drawing(NAME, TITLE, left_out=f"no rank curve has {FEWEST_RANKS_FOR_FIT} ranks with a validation score")
    drawn, rest = first_panels(curves)
    with report_style():
        figure, ((*axes,),) = panels(len(drawn))
        for panel, curve in zip(axes, drawn, strict=True):
            _panel(panel, curve)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=5 if len(drawn) > 1 else 3)
        files = render(figure)
    return Drawing(
        name=NAME,
        title=TITLE,
        caption=CAPTION + rest,
        alternative=" ".join([f"{TITLE}.", *(spoken_fit(curve) for curve in drawn)]),
        table=shown(excess_risk_table(curves, TITLE)),
        files=files,
        num_panels=min(len(curves), PANELS_PER_ROW),
    )


def _panel(axes: Axes, curve: RankCurve) -> None:
    fit = curve.evidence.excess_risk
    assert fit is not None, "only fitted curves are drawn"
    axes.set_xscale("log", base=2)
    grid = np.geomspace(fit.ranks[0], fit.ranks[-1], 120)
    parts = (
        ("fit", fit.error(grid), INK, "-"),
        ("approximation", fit.approximation(grid), BLUE, "--"),
        ("estimation", fit.estimation(grid), VERMILLION, "-."),
    )
    for label, values, colour, style in parts:
        axes.plot(grid, as_percent(list(values)), style, color=colour, label=label, linewidth=1.2)
    axes.axhline(100 * fit.floor, color=GREY, linestyle=":", linewidth=1.2, label="floor")
    _observed(axes, curve)
    axes.set_xticks(fit.ranks, [f"{rank:g}" for rank in fit.ranks], minor=False)
    axes.set_xticks([], minor=True)
    axes.set_ylim(bottom=0)
    axes.set(xlabel="rank", ylabel="validation error, %")
    setting = curve.conditions[0].setting
    axes.set_title(panel_title(curve.label, setting.backbone_title, setting.dataset))


def _observed(axes: Axes, curve: RankCurve) -> None:
    scored = [condition for condition in curve.conditions if condition.scores("validation")]
    scores = [estimate(list(condition.scores("validation").values())) for condition in scored]
    errors = [1 - (score.mean or 0.0) for score in scores]
    style = {"color": ORANGE, "markeredgecolor": PAPER, "markeredgewidth": 0.6, "markersize": 5.5, "zorder": 3}
    axes.plot(curve.evidence.ranks, as_percent(errors), "s", label="observed", **style)  # type: ignore[arg-type]
    bars = [
        (rank, *as_percent([1 - end for end in score.interval]))
        for rank, score in zip(curve.evidence.ranks, scores, strict=True)
        if score.interval is not None
    ]
    if bars:
        axes.vlines(*zip(*bars, strict=True), color=ORANGE, linewidth=1.1)


def spoken_fit(curve: RankCurve) -> str:
    """Return a curve's fit in words."""
    fit = curve.evidence.excess_risk
    assert fit is not None, "only fitted curves are told"
    first, last = fit.ranks[0], fit.ranks[-1]
    falling, growing = fit.approximation(np.array([first, last])), fit.estimation(np.array([first, last]))
    return (
        f"{curve.label} on {curve.conditions[0].setting.name}: from rank {first:g} to {last:g} the approximation error "
        f"falls from {percent(float(falling[0]))} to {percent(float(falling[1]))} %, the estimation error grows from "
        f"{percent(float(growing[0]))} to {percent(float(growing[1]))} %, over a floor of {percent(fit.floor)} %; the "
        f"fit's residual is {percent(fit.root_mean_square)} points{_remarks(fit, fit.ranks)}."
    )


def _remarks(fit: ErrorFit, ranks: Sequence[float]) -> str:
    """Return what to hold against a fit, and where it is least if that lies within the ranks tried."""
    remarks = ["exponent set to 1 for want of ranks"] if fit.is_exponent_fixed else []
    remarks += [] if fit.is_determined else ["the curve bends too little to show its floor"]
    if fit.best_rank is not None and ranks[0] <= fit.best_rank <= ranks[-1]:
        remarks.append(f"it is least at rank {fit.best_rank:.0f}")
    return "".join(f"; {remark}" for remark in remarks)
