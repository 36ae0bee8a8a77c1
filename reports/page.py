"""Lays the analysis out for reading: the HTML page in one file, and the same report as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.analysis import Analysis
from reports.conditions import count_statuses, is_search, trials_in_scope
from reports.figures.drawing import Drawing
from reports.findings import findings
from reports.formatting import ABSENT, duration, p_value, plural, points, points_interval
from reports.images_table import images_table
from reports.paper_figures import paper_figures_table
from reports.paper_table import paper_table
from reports.provenance import cautions, disagreements, package_versions, provenance_facts
from reports.rank_tables import elbows_table
from reports.record_tables import costs_table, missing_table, test_reads_table, unplanned_runs
from reports.result_tables import claims_table, comparisons_table, results_table, shown
from reports.runs import RunLinks
from reports.standings_table import standings_table
from reports.summary import SCOPE
from reports.tables import Cell, Table, caption_of, escape_markdown, to_csv, to_latex, to_markdown
from reports.verdicts import RULE, Verdict

if TYPE_CHECKING:
    from benchmark.tracking import StudyRecord

TEMPLATES = Path(__file__).parent / "templates"

MOST_COPIED_ROWS = 500
"""A longer table has no copy buttons: the page would carry it three times. Its files lie in `tables/`."""

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
        elbows_table(analysis),
        *(table for table in (paper_table(analysis), paper_figures_table(analysis)) if table.rows),
        missing_table(analysis),
        costs_table(analysis),
        test_reads_table(analysis),
        *(drawing.table for drawing in drawings if drawing.table is not None),
    ]
    return {table.name: table for table in tables}


def html_page(analysis: Analysis, drawings: Sequence[Drawing]) -> str:
    """Return the page: one file that needs no network, with styles, script and figures inside."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(TEMPLATES)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["sort_value"] = sort_value
    environment.globals["caption_of"] = caption_of
    return environment.get_template("index.html.j2").render(page_context(analysis, drawings))


def page_context(analysis: Analysis, drawings: Sequence[Drawing]) -> dict[str, Any]:
    """Return what the template lays out."""
    from markupsafe import Markup

    study, scale = analysis.study, claims_scale(analysis.verdicts)
    links = RunLinks.of(study)
    whole = report_tables(analysis, drawings)
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
        "max_runs": MAX_RUNS_SHOWN,
    }


def _forms(table: Table) -> dict[str, str]:
    """Return a table as its copy buttons give it: the content of its files."""
    return {"latex": to_latex(table), "csv": to_csv(table)}


def facts(analysis: Analysis) -> list[tuple[str, str]]:
    """Return the short facts of the first screen."""
    study, total = analysis.study, len(trials_in_scope(analysis.study))
    completed = sum(len(condition.completed) for condition in analysis.conditions)
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


def markdown_page(analysis: Analysis, drawings: Sequence[Drawing]) -> str:
    """Return the report as Markdown, with its figures beside it."""
    study, links = analysis.study, RunLinks.of(analysis.study)
    tables = {name: shown(table) for name, table in report_tables(analysis, drawings).items()}
    parts = [f"# {escape_markdown(study.name)}", escape_markdown(str(study.spec.get("question") or ""))]
    parts += [escape_markdown(" ".join(findings(analysis)))]
    parts += ["\n".join(f"- {name}: {value}" for name, value in facts(analysis)), SCOPE]
    parts += ["## Claims", *(_claim_markdown(verdict) for verdict in analysis.verdicts)]
    parts += [] if analysis.verdicts else [without_claims(study)]
    for name in ("paper", "paper_figures"):
        parts += [f"## {tables[name].title}", to_markdown(tables[name])] if name in tables else []
    optional = [name for name in ("standings", "images") if tables[name].rows]
    for name in ("results", *optional, "comparisons", "elbows"):
        parts += [f"## {tables[name].title}", to_markdown(tables[name]) if tables[name].rows else "None."]
    parts += ["## Figures", *(_figure_markdown(drawing) for drawing in drawings)]
    for name in ("missing", "costs", "test_reads"):
        parts += [f"## {tables[name].title}", to_markdown(tables[name]) if tables[name].rows else "None."]
    parts += ["## Runs", _opening(links), _runs_markdown(analysis, links)]
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _claim_markdown(verdict: Verdict) -> str:
    lines = [f"- **{verdict.name}** · {escape_markdown(verdict.claim.text)} (`{verdict.claim.id.replace('`', '')}`)"]
    for pair, alone, holm in zip(verdict.pairs, verdict.p_values, verdict.p_values_holm, strict=True):
        numbers = f"{points(pair.difference.mean)} points, 95 % interval {points_interval(pair.difference.interval)}"
        numbers += (
            f", n = {pair.difference.num_pairs}, p = {p_value(alone)}, after Holm over the claims {p_value(holm)}"
        )
        lines.append(f"  - {escape_markdown(f'{pair.a.setting.name}: {numbers}')}")
    notes = [note for note in (verdict.summary, verdict.reason, verdict.caution) if note]
    return "\n".join([*lines, *(f"  - {escape_markdown(note)}" for note in notes)])


def _figure_markdown(drawing: Drawing) -> str:
    if drawing.left_out:
        return f"### {drawing.title}\n\nLeft out: {escape_markdown(drawing.left_out)}."
    alternative = escape_markdown(drawing.alternative)
    return f"### {drawing.title}\n\n![{alternative}](figures/{drawing.name}.png)\n\n{escape_markdown(drawing.caption)}"


def _opening(links: RunLinks) -> str:
    if links.is_web:
        return f"Tracking: {escape_markdown(links.tracking_uri)}"
    where = f"In the folder of the store, `{links.store_file.replace('`', '')}`, this command opens it:"
    return f"{where}\n\n```\n{links.command}\n```\n\nA run is then at `{links.path('RUN')}` below the printed address."


def _runs_markdown(analysis: Analysis, links: RunLinks) -> str:
    """Return every condition's runs by seed."""
    lines = []
    for condition in analysis.conditions:
        runs = [f"seed {seed.seed} {_run_markdown(seed.run_id, links)}" for seed in condition.completed]
        lines.append(f"- {escape_markdown(condition.id)}: {', '.join(runs) or ABSENT}")
    return "\n".join(lines)


def _run_markdown(run_id: str, links: RunLinks) -> str:
    href = links.href(run_id)
    return f"[`{run_id}`]({href})" if href else f"`{run_id}`"
