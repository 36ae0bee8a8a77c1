"""The table in the paper's layout: methods within backbones down, data sets across, the published figures beside.

Published figures stand in rows of their own, marked `cited` or `unknown`; they enter no average, no ranking, no bold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from reports.analysis import Analysis
from reports.conditions import Condition, is_search, short_options
from reports.fields import without_files
from reports.formatting import ABSENT, listed, mean_and_std, percent, plural
from reports.naming import LABEL_SEPARATOR, dataset_title, method_title
from reports.published import Published, published
from reports.statistics import estimate, holm, paired_difference
from reports.tables import Cell, Column, Table
from reports.task_averages import groups_of, seed_averages

NAME, TITLE = "paper", "In the paper's layout"
MISSING, UNKNOWN, CITED = "missing", "unknown", "cited"

SIGNIFICANT = 0.05
"""The level of a p-value, Holm-corrected over the table, below which a best score is set in bold."""

MOST_PAIRS = 5000
"""A table of more pairs than that sets nothing in bold: after Holm's correction hardly anything could be."""


@dataclass
class PaperRow:
    """One method on one backbone: its condition on each data set."""

    backbone: str
    label: str
    conditions: dict[str, Condition] = field(default_factory=dict)


def paper_table(analysis: Analysis, known: Published | None = None) -> Table:
    """Return the study in the paper's layout; without rows where it has one data set and none of the paper's cells."""
    known = known or published()
    rows = paper_rows(analysis.conditions)
    datasets = list(dict.fromkeys(condition.setting.dataset for condition in analysis.conditions))
    has_published = any(known.row_of(condition.spec) for condition in analysis.conditions)
    columns = table_columns(datasets)
    if is_search(analysis.study) or not (has_published or len(datasets) > 1):
        return Table(NAME, TITLE, caption(datasets, False), columns, ())
    best = best_conditions(rows, datasets)
    cells: list[tuple[Cell, ...]] = []
    for row in rows:
        cells.append(_run_row(row, datasets, best))
        if any(known.row_of(condition.spec) for condition in row.conditions.values()):
            cells.append(_cited_row(row, datasets, known))
    if has_published:
        cells += _reference_rows(datasets, known)
    return Table(NAME, TITLE, caption(datasets, has_published), columns, tuple(cells))


def caption(datasets: Sequence[str], has_published: bool) -> str:
    """Return what the table holds and how to read it."""
    told = [
        "Test top-1 in percent, mean ± standard deviation over seeds; “missing” where no seed has completed.",
        "Bold: the best of its backbone and data set, where a paired t-test against each of the others stays below "
        f"{SIGNIFICANT:g} after Holm's correction over the table (of up to {MOST_PAIRS} pairs).",
    ]
    if len(datasets) > 1:
        told.append("The mean over tasks counts every data set once, and only seeds completed on all of them.")
    if groups_of(datasets):
        told.append("The mean over groups counts every group once, whatever its number of tasks.")
    if has_published:
        told.append("Rows marked cited were not run here: they enter no mean, no ranking and no bold.")
    return " ".join(told)


def table_columns(datasets: Sequence[str]) -> tuple[Column, ...]:
    """Return the columns: the row's names, the data sets, and the averages that there are."""
    averages = [Column("mean_over_tasks", "Mean over tasks", True)] if len(datasets) > 1 else []
    groups = groups_of(datasets)
    averages += [Column(f"mean_{group}", f"Mean, {group}", True) for group in groups]
    averages += [Column("mean_over_groups", "Mean over groups", True)] if groups else []
    names = (Column("backbone", "Backbone"), Column("method", "Method"), Column("source", "Source"))
    return (*names, *(Column(dataset, dataset_title(dataset), True) for dataset in datasets), *averages)


def paper_rows(conditions: Sequence[Condition]) -> list[PaperRow]:
    """Return the rows, methods within backbones; settings that differ between data sets share a row where they can.

    A method tuned on each data set has one row; where one data set holds several conditions of the same method, rank,
    placement and initialisation, their labels tell the rows apart.
    """
    coarse = {condition.condition_id: _coarse_key(condition) for condition in conditions}
    times = Counter((coarse[condition.condition_id], condition.setting.dataset) for condition in conditions)
    shared = {key for key, _ in times if all(times[key, c.setting.dataset] <= 1 for c in conditions)}
    rows: dict[tuple[str, ...], PaperRow] = {}
    for condition in conditions:
        key = coarse[condition.condition_id]
        label = _short_label(condition) if key in shared else condition.label
        new = PaperRow(condition.setting.backbone_title, label)
        row = rows.setdefault((*key, label), new)
        if condition.setting.dataset in row.conditions:  # two splits or protocols of one data set
            row = rows.setdefault((condition.condition_id,), PaperRow(new.backbone, condition.label))
        row.conditions[condition.setting.dataset] = condition
    order = list(dict.fromkeys(row.backbone for row in rows.values()))
    return sorted(rows.values(), key=lambda row: order.index(row.backbone))


def _coarse_key(condition: Condition) -> tuple[str, ...]:
    backbone = sorted(without_files(condition.spec.get("backbone", {})).items())
    return str(backbone), condition.method, *short_options(condition.spec).values()


def _short_label(condition: Condition) -> str:
    """Return the label without what only tells data sets' settings apart, such as a learning rate tuned on each."""
    rank, parts = condition.option("rank"), condition.label.split(LABEL_SEPARATOR)
    head = method_title(condition.method) if rank is None else f"{method_title(condition.method)} r{rank}"
    tuned = set(condition.spec.get("training", {}))
    kept = [part for part in parts[1:] if part.rpartition(" ")[0].replace(" ", "_") not in tuned]
    return LABEL_SEPARATOR.join([head, *kept])


def _run_row(row: PaperRow, datasets: Sequence[str], best: Mapping[str, str]) -> tuple[Cell, ...]:
    """Return this study's own numbers of a row."""
    cells = [_run_cell(row.conditions.get(dataset), best) for dataset in datasets]
    averages = [_average_cell(row, datasets)] if len(datasets) > 1 else []
    groups = groups_of(datasets)
    averages += [_average_cell(row, members) for members in groups.values()]
    averages += [_group_average_cell(row, groups)] if groups else []
    return Cell(row.backbone), Cell(row.label), Cell("run"), *cells, *averages


def _run_cell(condition: Condition | None, best: Mapping[str, str]) -> Cell:
    if condition is None:
        return Cell(ABSENT, reason="not in the study's plan")
    scores = condition.scores("test")
    found, planned = estimate(list(scores.values())), len(condition.planned_seeds)
    if found.mean is None:
        return Cell(MISSING, reason=f"none of {plural(planned, 'seed')} has a test score")
    few = f"{len(scores)} of {planned} seeds" if len(scores) < planned else None
    reason = "; ".join(text for text in (few, found.reason) if text) or None
    text = mean_and_std(found.mean, found.std)
    is_best = condition.condition_id in best
    return Cell(text, found.mean, condition.run_ids, best.get(condition.condition_id, reason), is_best=is_best)


def _task_scores(row: PaperRow, datasets: Sequence[str]) -> list[dict[int, float]]:
    return [row.conditions[name].scores("test") if name in row.conditions else {} for name in datasets]


def _average_cell(row: PaperRow, datasets: Sequence[str]) -> Cell:
    return _averaged(row, datasets, seed_averages(_task_scores(row, datasets)))


def _group_average_cell(row: PaperRow, groups: Mapping[str, Sequence[str]]) -> Cell:
    means = [seed_averages(_task_scores(row, members)) for members in groups.values()]
    return _averaged(row, [name for members in groups.values() for name in members], seed_averages(means))


def _averaged(row: PaperRow, datasets: Sequence[str], scores: Mapping[int, float]) -> Cell:
    """Return an average's cell; missing, with the data sets that lack it, where no seed has completed on all."""
    absent = [dataset_title(name) for name in datasets if not _task_scores(row, [name])[0]]
    found = estimate(list(scores.values()))
    if found.mean is None:
        why = f"no score on {listed(absent)}" if absent else "no seed has completed on all data sets"
        return Cell(MISSING, reason=why)
    conditions = [row.conditions[name] for name in datasets]
    runs = tuple(one.run_id for condition in conditions for one in condition.completed if one.seed in scores)
    planned = max(len(condition.planned_seeds) for condition in conditions)
    reason = found.reason if len(scores) == planned else f"{len(scores)} of {planned} seeds completed on all data sets"
    return Cell(mean_and_std(found.mean, found.std), found.mean, runs, reason)


def best_conditions(rows: Sequence[PaperRow], datasets: Sequence[str]) -> dict[str, str]:
    """Return, by condition id, why a condition is best beyond doubt in its backbone and data set.

    Every pair of a backbone and data set is tested, and Holm's correction is over all of the table's pairs.
    """
    pairs = [
        (a.conditions[dataset], b.conditions[dataset])
        for dataset in datasets
        for index, a in enumerate(rows)
        for b in rows[index + 1 :]
        if a.backbone == b.backbone and dataset in a.conditions and dataset in b.conditions
    ]
    if len(pairs) > MOST_PAIRS:
        return {}
    differences = [paired_difference(a.scores("test"), b.scores("test")) for a, b in pairs]
    corrected = holm([difference.p_value for difference in differences])
    won: dict[str, list[float | None]] = {}
    for (a, b), difference, p_value in zip(pairs, differences, corrected, strict=True):
        is_decided = p_value is not None and p_value < SIGNIFICANT and difference.mean is not None
        for one, is_ahead in ((a, (difference.mean or 0) > 0), (b, (difference.mean or 0) < 0)):
            won.setdefault(one.condition_id, []).append(p_value if is_decided and is_ahead else None)
    return {
        key: f"ahead of each of the others, p < {max(p for p in p_values if p is not None):.2g} after Holm"
        for key, p_values in won.items()
        if all(p is not None for p in p_values)
    }


def _cited_row(row: PaperRow, datasets: Sequence[str], known: Published) -> tuple[Cell, ...]:
    """Return what the paper says of a row: its known cells, the others as unknown."""
    cells = [_published_cell(row.conditions.get(dataset), known) for dataset in datasets]
    return Cell(row.backbone), Cell(row.label), Cell("published"), *cells, *_no_averages(datasets)


def _published_cell(condition: Condition | None, known: Published) -> Cell:
    place = known.row_of(condition.spec) if condition else None
    if condition is None or place is None:
        return Cell(ABSENT, reason="not in the paper")
    cell = known.cell_of(condition.spec)
    if cell is None:
        return Cell("", mark=UNKNOWN, reason=f"{known.paper}, {place.where}: the figure is not known to this suite")
    return Cell(percent(cell.top1), cell.top1, reason=f"{known.paper}, {cell.where}", mark=CITED)


def _reference_rows(datasets: Sequence[str], known: Published) -> list[tuple[Cell, ...]]:
    """Return published figures that belong to no row of this table, each with what it is of."""
    listed_row = {
        name: Cell(percent(top1), top1, reason=known.best_listed.where, mark=CITED)
        for name, top1 in known.best_listed.top1.items()
    }
    rows = [_reference_row("not stated", "best score listed", listed_row, datasets)]
    for one in known.ranges:
        ranges = {
            name: Cell(f"{percent(low)}–{percent(high)}", reason=one.where, mark=CITED)
            for name, (low, high) in one.top1.items()
        }
        rows.append(_reference_row(one.backbone, method_title(one.method), ranges, datasets))
    return [row for row in rows if any(cell.mark == CITED for cell in row)]


def _reference_row(backbone: str, label: str, cells: Mapping[str, Cell], datasets: Sequence[str]) -> tuple[Cell, ...]:
    absent = Cell(ABSENT, reason="not published there")
    head = Cell(backbone), Cell(label), Cell("published")
    return *head, *(cells.get(dataset, absent) for dataset in datasets), *_no_averages(datasets)


def _no_averages(datasets: Sequence[str]) -> tuple[Cell, ...]:
    """Return the cells of the averages, which published figures do not enter."""
    num_averages = len(table_columns(datasets)) - 3 - len(datasets)
    return tuple(Cell(ABSENT, reason="published figures enter no mean") for _ in range(num_averages))
