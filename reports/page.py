"""Lays the analysis out for reading: the HTML page in one file, and the same report as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.result import TrialStatus
from reports.analysis import Analysis
from reports.combinations_table import combinations_table
from reports.conditions import count_statuses, is_search, trials_in_scope
from reports.figures.drawing import Drawing
from reports.findings import findings
from reports.formatting import duration, p_value, plural, points, points_interval
from reports.images_table import images_table
from reports.naming import LABEL_SEPARATOR
from reports.paper_figures import paper_figures_table
from reports.paper_table import paper_table
from reports.provenance import cautions, disagreements, package_versions, provenance_facts
from reports.rank_tables import elbows_table
from reports.record_tables import costs_table, missing_table, test_reads_table, unplanned_runs
from reports.result_tables import claims_table, comparisons_table, results_table, shown
from reports.runs import RunLinks, RunNumbers
from reports.standings_table import standings_table
from reports.summary import SCOPE
from reports.tables import Cell, Table, caption_of, to_csv, to_latex
from reports.verdicts import RULE, Verdict

if TYPE_CHECKING:
    from benchmark.tracking import StudyRecord

TEMPLATES = Path(__file__).parent / "templates"

MOST_COPIED_ROWS = 500
"""A longer table has no copy buttons: the page would carry it three times. Its files lie in `tables/`."""

MOST_SHOWN_ROWS = 1000
"""A longer table is cut on the page, where no browser likes to lay it out; its file holds all of it."""

MAX_RUNS_SHOWN = 50
"""How many runs stand behind one number; hundreds behind each would make a page that no browser likes to open."""


def report_tables(analysis: Analysis, drawings: Sequence[Drawing]) -> dict[str, Table]:
    """Return every table of the report by name, with all columns."""
    tables = [
        results_table(analysis),
        standings_table(analysis.standings),
        comparisons_table(analysis),
        claims_table(analysis),
        images_table(analysis.image_comparisons),
        combinations_table(analysis.combinations),
        elbows_table(analysis),
        *(table for table in (paper_table(analysis), paper_figures_table(analysis)) if table.rows),
        missing_table(analysis),
        costs_table(analysis),
        test_reads_table(analysis),
        *(drawing.table for drawing in drawings if drawing.table is not None),
    ]
    return {table.name: table for table in tables}


def html_page(analysis: Analysis, drawings: Sequence[Drawing], whole_tables: Mapping[str, Table] | None = None) -> str:
    """Return the page: one file that needs no network, with styles, script and figures inside.

    Args:
        analysis: What it says.
        drawings: Its figures.
        whole_tables: Those of `report_tables`, where they are made already: of ten thousand trials that takes seconds.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(TEMPLATES)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["sort_value"] = sort_value
    environment.filters["in_parts"] = in_parts
    environment.globals["caption_of"] = caption_of
    return environment.get_template("index.html.j2").render(page_context(analysis, drawings, whole_tables))


def page_context(
    analysis: Analysis, drawings: Sequence[Drawing], whole_tables: Mapping[str, Table] | None = None
) -> dict[str, Any]:
    """Return what the template lays out."""
    from markupsafe import Markup

    study, scale = analysis.study, claims_scale(analysis.verdicts)
    links = RunLinks.of(study)
    whole = whole_tables or report_tables(analysis, drawings)
    tables = {name: shown(table) for name, table in whole.items()}
    return {
        "style": Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),  # noqa: S704 our own file
        "script": Markup((TEMPLATES / "page.js").read_text(encoding="utf-8")),  # noqa: S704 our own file
        "study": study,
        "question": study.spec.get("question"),
        "kind": study.spec.get("kind") or "study",
        "findings": findings(analysis),
        "facts": facts(analysis),
        "scope": SCOPE,
        "claims": [claim_view(verdict, scale) for verdict in analysis.verdicts],
        "claim_rule": RULE,
        "without_claims": without_claims(study),
        "tables": tables,
        "forms": {name: _forms(table) for name, table in whole.items() if table.num_rows <= MOST_COPIED_ROWS},
        "scales": {"results": scale_of(tables["results"]), "comparisons": scale_of(tables["comparisons"], 0.0)},
        # matplotlib escaped the names in it; see reports.figures.drawing.inline_svg.
        "figures": [(drawing, Markup(drawing.svg(links.href)) if drawing.files else None) for drawing in drawings],  # noqa: S704
        "missing": analysis.missing,
        "statuses": count_statuses(study),
        "overhead": duration(analysis.overhead_seconds),
        "wall": duration(study.wall_seconds),
        "provenance": provenance_facts(analysis.conditions),
        "packages": package_versions(analysis.conditions),
        "disagreements": disagreements(analysis.conditions),
        "unplanned": unplanned_runs(study),
        "links": links,
        "numbers": RunNumbers(),
        "max_runs": MAX_RUNS_SHOWN,
        "max_rows": MOST_SHOWN_ROWS,
    }


def _forms(table: Table) -> dict[str, str]:
    """Return a table as its copy buttons give it: the content of its files."""
    return {"latex": to_latex(table), "csv": to_csv(table)}


def facts(analysis: Analysis) -> list[tuple[str, str]]:
    """Return the short facts of the first screen."""
    study, total = analysis.study, len(trials_in_scope(analysis.study))
    completed = count_statuses(study)[TrialStatus.COMPLETED.value]
    seeds = sorted({seed for condition in analysis.conditions for seed in condition.planned_seeds})
    return [
        ("Trials completed", f"{completed} of {total}"),
        ("Conditions", str(len(analysis.conditions))),
        ("Seeds planned", str(len(seeds))),
        ("Wall time", duration(study.wall_seconds)),
        ("Overhead per trial", duration(analysis.overhead_seconds)),
        ("Test reads", str(len(study.test_reads))),
        *selection_facts(study.spec.get("locked")),
        *cautions(analysis.conditions),
    ]


def without_claims(study: StudyRecord) -> str:
    """Return what stands in the place of claims where none is judged."""
    return "A search judges no claim: its confirmation does." if is_search(study) else "The study states no claim."


def selection_facts(locked: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Return where a confirmation's settings come from: the search, when it was locked and by whom, its warnings."""
    if not locked:
        return []
    by = f" by {locked['locked_by']}" if locked.get("locked_by") else ""
    facts = [("Settings selected by", f"{locked['study']}, locked {locked['locked_at']}{by}, {locked['sha256'][:12]}")]
    return facts + [("Fairness", warning) for warning in locked.get("warnings") or []]


def claim_view(verdict: Verdict, scale: dict[str, float | None]) -> dict[str, Any]:
    """Return a claim as the page shows it: a line for every setting, drawn on the scale of all claims."""
    margin = verdict.claim.margin
    forests = [_forest(pair.difference.interval, pair.difference.mean) for pair in verdict.pairs]
    pairs = [
        {
            "place": pair.a.setting.name,
            "sides": f"{pair.a.label} − {pair.b.label}",
            "mean": points(pair.difference.mean),
            "interval": points_interval(pair.difference.interval),
            "num_pairs": plural(pair.difference.num_pairs, "paired seed"),
            "reason": pair.difference.reason,
            "verdict": name if len(verdict.pairs) > 1 else None,
            "needed": f"about {needed} seeds would decide it, were mean and spread to stay" if needed else None,
            "forest": forest,
            "run_ids": pair.run_ids,
            "p_values": f"p = {p_value(alone)}, {p_value(corrected)} after Holm over the claims",
        }
        for pair, name, needed, forest, alone, corrected in zip(
            verdict.pairs,
            verdict.pair_names,
            verdict.seeds_needed,
            forests,
            verdict.p_values,
            verdict.p_values_holm,
            strict=True,
        )
    ]
    return {"verdict": verdict, "margin": points(margin), "pairs": pairs, "scale": scale | {"reference": margin}}


def claims_scale(verdicts: Sequence[Verdict]) -> dict[str, float | None]:
    """Return the one scale on which all claims' intervals are drawn, so that they can be compared."""
    intervals = [pair.difference.interval for verdict in verdicts for pair in verdict.pairs]
    ends = [end for interval in intervals if interval for end in interval]
    return padded_scale([*ends, *(verdict.claim.margin for verdict in verdicts), 0.0], None)


def _forest(interval: tuple[float, float] | None, mean: float | None) -> tuple[float, float, float] | None:
    return None if interval is None or mean is None else (interval[0], mean, interval[1])


def scale_of(table: Table, reference: float | None = None) -> dict[str, float | None]:
    """Return the scale on which a table's intervals are drawn."""
    values = [value for row in table.rows for cell in row if cell.forest for value in cell.forest]
    return padded_scale(values + ([reference] if reference is not None else []), reference)


def padded_scale(values: Sequence[float], reference: float | None) -> dict[str, float | None]:
    """Return low and high end of a drawing with some room, and the line it refers to."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    room = 0.05 * (high - low) or 0.01
    return {"low": low - room, "high": high + room, "reference": reference}


def sort_value(cell: Cell) -> str:
    """Return what a column is sorted by."""
    if cell.forest is not None:
        return str(cell.forest[1])
    return str(cell.value) if isinstance(cell.value, (int, float)) else cell.text


def in_parts(text: str) -> str:
    """Return a label as HTML that breaks between its parts ("AdapterTune r8 ·", "all blocks") and not inside them."""
    from markupsafe import Markup, escape

    parts = text.split(LABEL_SEPARATOR)
    if len(parts) == 1:
        return escape(text)
    told = [*(f"{part}{LABEL_SEPARATOR.rstrip()}" for part in parts[:-1]), parts[-1]]
    return Markup(" ").join(Markup('<span class="part">{}</span>').format(part) for part in told)
