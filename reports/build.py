"""Writes a study's report: the page, Markdown, tables, figures, `trials.csv` and `summary.json`."""

from __future__ import annotations

import importlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.analysis import Analysis, CurveReader, LossReader, analyse, refuse_when_incomplete
from reports.figures.drawing import Drawing
from reports.image_tests import PredictionReader
from reports.markdown import markdown_page
from reports.page import html_page, report_tables
from reports.record_tables import trials_csv
from reports.summary import summarise, summary_of
from reports.tables import to_csv, to_latex, to_markdown

if TYPE_CHECKING:
    from benchmark.tracking import StudyRecord

__all__ = ["CurveReader", "Report", "build_report", "summarise"]

FIGURE_NAMES = ("rank", "excess_risk", "placement", "placement_map", "initialisation", "parameters")
POINT_TABLES = (
    "rank_curve",
    "excess_risk",
    "placement",
    "placement_map",
    "initialisation",
    "parameters",
    "paper",
    "paper_figures",
)
FIGURE_SUFFIXES = ("png", "svg", "pdf")
TABLE_SUFFIXES = ("md", "tex", "csv")
_IMPORTED_AHEAD = (
    "jinja2",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg",
    "matplotlib.backends.backend_pdf",
    "scipy.stats",
)


@dataclass(frozen=True)
class Report:
    """A written report.

    Attributes:
        summary: The content of `summary.json`.
        index: The page.
        files: All of its files, below the page's folder; empty for a report that an earlier run wrote.
    """

    summary: dict[str, Any]
    index: Path
    files: tuple[Path, ...] = ()


def build_report(
    study: StudyRecord,
    curves: CurveReader,
    directory: Path,
    strict: bool = False,
    first_losses: LossReader | None = None,
    predictions: PredictionReader | None = None,
) -> Report:
    """Write the report of a study into a folder, whole or not at all, file by file.

    Args:
        study: What tracking knows of the study.
        curves: Reads the per-epoch records of runs.
        directory: Made where it is missing; files of an earlier report of the same names are replaced.
        strict: Refuse a study with missing seeds, before anything is written.
        first_losses: Reads the losses of runs' first steps; none: the report shows none.
        predictions: Reads the test predictions of the claims' runs; none: nothing is said over images.

    Raises:
        RequestError: `strict`, and a planned seed has no usable score; or a stored claim is not one.
    """
    analysis = analyse(study, curves, first_losses, predictions)
    if strict:
        refuse_when_incomplete(analysis)
    summary = summary_of(analysis)
    directory.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=directory))
    try:
        _write(draft, analysis, draw_all(analysis), summary)
        files = _publish(draft, directory)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Report(summary, directory / "index.html", files)


def import_ahead() -> None:
    """Import what a report needs and takes a second to import, where there is time for it before the report's own."""
    for name in _IMPORTED_AHEAD:
        importlib.import_module(name)


def draw_all(analysis: Analysis) -> list[Drawing]:
    """Return every figure, drawn or left out with its reason."""
    from reports.figures.initialisation import draw_initialisation
    from reports.figures.option import draw_placement, draw_rank
    from reports.figures.parameters import draw_parameters
    from reports.figures.placement_map import draw_placement_map
    from reports.figures.rank_fit import draw_excess_risk

    options = (draw_rank, draw_excess_risk, draw_placement, draw_placement_map)
    return [draw(analysis) for draw in (*options, draw_initialisation, draw_parameters)]


def _write(draft: Path, analysis: Analysis, drawings: Sequence[Drawing], summary: dict[str, Any]) -> None:
    """Write all files of the report into an empty folder."""
    for folder in ("tables", "figures"):
        (draft / folder).mkdir()
    tables = report_tables(analysis, drawings)
    for name, table in tables.items():
        for suffix, write in zip(TABLE_SUFFIXES, (to_markdown, to_latex, to_csv), strict=True):
            (draft / "tables" / f"{name}.{suffix}").write_text(write(table), encoding="utf-8")
    for drawing in drawings:
        for suffix, content in (drawing.files or {}).items():
            (draft / "figures" / f"{drawing.name}.{suffix}").write_bytes(content)
    (draft / "trials.csv").write_text(trials_csv(analysis.study), encoding="utf-8")
    (draft / "report.md").write_text(markdown_page(analysis, drawings, tables), encoding="utf-8")
    left_out = {drawing.name: drawing.left_out for drawing in drawings if drawing.left_out}
    summary["figures_left_out"] = left_out
    text = json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False)
    (draft / "summary.json").write_text(text + "\n", encoding="utf-8")
    (draft / "index.html").write_text(html_page(analysis, drawings, tables), encoding="utf-8")


def _publish(draft: Path, directory: Path) -> tuple[Path, ...]:
    """Move the files into place, the page last, remove what an earlier report had and this one leaves out, name all."""
    files = sorted(path.relative_to(draft) for path in draft.rglob("*") if path.is_file())
    for file in sorted(files, key=lambda path: path.name == "index.html"):
        (directory / file).parent.mkdir(parents=True, exist_ok=True)
        (draft / file).replace(directory / file)
    possible = [Path("figures", f"{name}.{suffix}") for name in FIGURE_NAMES for suffix in FIGURE_SUFFIXES]
    possible += [Path("tables", f"{name}.{suffix}") for name in POINT_TABLES for suffix in TABLE_SUFFIXES]
    for file in set(possible) - set(files):
        (directory / file).unlink(missing_ok=True)
    return tuple(files)
