"""The report as Markdown, with its figures beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reports.analysis import Analysis
from reports.figures.drawing import Drawing
from reports.findings import findings
from reports.formatting import ABSENT, p_value, points, points_interval
from reports.page import facts, report_tables, without_claims
from reports.result_tables import shown
from reports.runs import RunLinks
from reports.summary import SCOPE
from reports.tables import Table, escape_markdown, to_markdown
from reports.verdicts import Verdict


def markdown_page(
    analysis: Analysis, drawings: Sequence[Drawing], whole_tables: Mapping[str, Table] | None = None
) -> str:
    """Return the report as Markdown, with its figures beside it."""
    study, links = analysis.study, RunLinks.of(analysis.study)
    whole = whole_tables or report_tables(analysis, drawings)
    tables = {name: shown(table) for name, table in whole.items()}
    parts = [f"# {escape_markdown(study.name)}", escape_markdown(str(study.spec.get("question") or ""))]
    parts += [escape_markdown(" ".join(findings(analysis)))]
    parts += ["\n".join(f"- {name}: {value}" for name, value in facts(analysis)), SCOPE]
    parts += ["## Claims", *(_claim_markdown(verdict) for verdict in analysis.verdicts)]
    parts += [] if analysis.verdicts else [without_claims(study)]
    for name in ("paper", "paper_figures"):
        parts += [f"## {tables[name].title}", to_markdown(tables[name])] if name in tables else []
    optional = [name for name in ("standings", "images", "combinations") if tables[name].rows]
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
