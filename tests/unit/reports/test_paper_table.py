import csv
import io

import pytest

from benchmark.result import TrialStatus
from reports.analysis import analyse
from reports.build import build_report
from reports.paper_figures import paper_figures_table
from reports.paper_table import paper_table
from reports.published import PublishedCell, published
from reports.tables import to_csv, to_latex, to_markdown
from reports.task_averages import VTAB_GROUPS, groups_of, seed_averages
from tests.unit.reports.synthetic import (
    CORE_DATASETS,
    PAPER_BACKBONES,
    completed,
    failed,
    full_study,
    make_spec,
    make_study,
    no_curves,
    paper_specs,
    paper_study,
)


def table_of(study, known=None):
    return paper_table(analyse(study, no_curves), known)


def cell_of(table, backbone, method, source, column):
    index = [one.key for one in table.columns].index(column)
    (row,) = [row for row in table.rows if [cell.text for cell in row[:3]] == [backbone, method, source]]
    return row[index]


@pytest.fixture(scope="module")
def core():
    return table_of(paper_study())


def test_rows_are_methods_within_backbones_when_the_study_is_the_papers(core):
    rows = [(row[0].text, row[1].text) for row in core.rows if row[2].text == "run"]
    methods = ["Head only", "AdapterTune r16", "Full fine-tuning"]
    assert rows == [(backbone, method) for backbone in PAPER_BACKBONES for method in methods]
    assert [column.key for column in core.columns[3:]] == [*CORE_DATASETS, "mean_over_tasks"]


def test_cell_is_mean_and_deviation_when_every_seed_has_completed():
    trials = [completed(make_spec("head_only", seed, dataset=name), score) for name, seed, score in SIX_SCORES]
    cell = cell_of(table_of(make_study(trials)), "vit_nano", "Head only", "run", "svhn")
    # 0.80, 0.82, 0.84: mean 0.82, sample standard deviation 0.02.
    assert (cell.text, cell.value, len(cell.run_ids)) == ("82.00 ± 2.00", pytest.approx(0.82), 3)


SIX_SCORES = [("svhn", seed, 0.80 + 0.02 * seed) for seed in range(3)] + [
    ("cifar10", seed, 0.90 + 0.04 * seed) for seed in range(3)
]


def test_mean_over_tasks_is_by_seed_when_every_task_has_completed():
    trials = [completed(make_spec("head_only", seed, dataset=name), score) for name, seed, score in SIX_SCORES]
    cell = cell_of(table_of(make_study(trials)), "vit_nano", "Head only", "run", "mean_over_tasks")
    # By seed: (0.80 + 0.90) / 2 = 0.85, 0.88, 0.91.
    assert (cell.text, len(cell.run_ids)) == ("88.00 ± 3.00", 6)


def test_mean_over_tasks_is_missing_when_one_task_has_no_score():
    specs = [make_spec("head_only", seed, dataset=name) for name in ("svhn", "cifar10") for seed in range(2)]
    study = make_study([completed(spec, 0.9) for spec in specs[:2]], specs)
    cell = cell_of(table_of(study), "vit_nano", "Head only", "run", "mean_over_tasks")
    assert (cell.text, cell.value, cell.reason) == ("missing", None, "no score on CIFAR-10")
    assert cell_of(table_of(study), "vit_nano", "Head only", "run", "cifar10").text == "missing"


def test_cell_says_how_many_seeds_it_has_when_some_failed():
    specs = [make_spec("head_only", seed, dataset=name) for name in ("svhn", "cifar10") for seed in range(3)]
    trials = [completed(spec, 0.9 + spec["seed"] / 100) for spec in specs[:-1]]
    study = make_study([*trials, failed(specs[-1], TrialStatus.DIVERGED)], specs)
    assert cell_of(table_of(study), "vit_nano", "Head only", "run", "cifar10").reason == "2 of 3 seeds"
    average = cell_of(table_of(study), "vit_nano", "Head only", "run", "mean_over_tasks")
    assert (average.text, average.reason) == ("90.50 ± 0.71", "2 of 3 seeds completed on all data sets")


def test_every_own_cell_is_missing_when_nothing_has_run():
    table = table_of(make_study([], paper_specs()))
    cells = [cell.text for row in table.rows if row[2].text == "run" for cell in row[3:]]
    assert cells == ["missing"] * (9 * 6)


def test_both_averages_stand_by_name_when_tasks_have_groups():
    scores = {"vtab_svhn": 0.8, "vtab_dtd": 0.6, "vtab_eurosat": 0.9}
    trials = [completed(make_spec("lora", 0, dataset=name, rank=8), score) for name, score in scores.items()]
    table = table_of(make_study(trials))
    averages = {column.key: cell.text for column, cell in zip(table.columns, table.rows[0], strict=True)}
    # Natural (0.8 + 0.6) / 2 = 0.7; groups (0.7 + 0.9) / 2 = 0.8; tasks 2.3 / 3.
    assert [averages[key] for key in ("mean_over_tasks", "mean_natural", "mean_specialised", "mean_over_groups")] == [
        "76.67",
        "70.00",
        "90.00",
        "80.00",
    ]


def test_groups_hold_the_nineteen_tasks_when_all_are_there():
    tasks = [f"vtab_{task}" for tasks in VTAB_GROUPS.values() for task in tasks]
    assert {group: len(members) for group, members in groups_of(tasks).items()} == {
        "natural": 7,
        "specialised": 4,
        "structured": 8,
    }
    assert groups_of([*tasks, "cifar10"]) == {}
    assert groups_of(["vtab_svhn", "vtab_dtd"]) == {}


def test_no_seed_is_averaged_when_tasks_share_none():
    assert seed_averages([{0: 0.5, 1: 0.7}, {1: 0.9}]) == {1: pytest.approx(0.8)}
    assert seed_averages([{0: 0.5}, {1: 0.9}]) == {}
    assert seed_averages([]) == {}


def test_best_is_bold_when_it_is_ahead_of_each_beyond_doubt(core):
    bold = {
        (row[1].text, column.key)
        for row in core.rows
        for column, cell in zip(core.columns, row, strict=True)
        if cell.is_best
    }
    assert {method for method, _ in bold} == {"AdapterTune r16"}
    assert "mean_over_tasks" not in {column for _, column in bold}


def test_nothing_is_bold_when_the_best_is_ahead_of_one_only():
    scores = {"head_only": (0.50, 0.52, 0.53), "bitfit": (0.90, 0.93, 0.91), "full_finetune": (0.91, 0.92, 0.92)}
    trials = [
        completed(make_spec(method, seed, dataset=name), score)
        for name in ("svhn", "cifar10")
        for method, values in scores.items()
        for seed, score in enumerate(values)
    ]
    assert [cell for row in table_of(make_study(trials)).rows for cell in row if cell.is_best] == []


def test_published_rows_are_unknown_when_no_figure_is_known(core):
    cells = [
        cell for row in core.rows if row[2].text == "published" and row[1].text == "AdapterTune r16" for cell in row
    ]
    assert {cell.mark for cell in cells[3:8]} == {"unknown"}
    assert {cell.value for cell in cells} == {None}


def test_published_figure_is_cited_and_enters_nothing_when_known():
    best = PublishedCell(
        backbone="vit_small_patch16_224", dataset="svhn", select={"method": "head_only"}, top1=0.999, where="table 0"
    )
    known = published().model_copy(update={"cells": [best]})
    with_figure, without = table_of(paper_study(), known), table_of(paper_study())
    cell = cell_of(with_figure, PAPER_BACKBONES[1], "Head only", "published", "svhn")
    assert (cell.text, cell.mark, cell.is_best, cell.run_ids) == ("99.90", "cited", False, ())
    own = [[row for row in table.rows if row[2].text == "run"] for table in (with_figure, without)]
    assert own[0] == own[1]


def test_best_listed_scores_name_no_row_when_shown(core):
    (row,) = [row for row in core.rows if row[0].text == "not stated"]
    assert [cell.text for cell in row[3:8]] == ["98.90", "91.20", "–", "–", "–"]
    assert "row and backbone unknown" in row[3].reason


def test_table_has_no_rows_when_the_study_has_another_shape():
    assert table_of(full_study(num_seeds=1, drop=False)).rows == ()
    search = make_study(paper_study().trials, spec={"kind": "search"})
    assert table_of(search).rows == ()


def test_ablation_has_its_unknown_figures_beside_when_it_is_the_papers():
    specs = [
        make_spec("adaptertune", 0, PAPER_BACKBONES[1], "cifar100", rank=rank, placement="all", init="zero")
        for rank in (8, 16, 128)
    ]
    table = table_of(make_study([], specs))
    assert [(row[1].text, row[2].text) for row in table.rows][:5] == [
        ("AdapterTune r8", "run"),
        ("AdapterTune r8", "published"),
        ("AdapterTune r16", "run"),
        ("AdapterTune r16", "published"),
        ("AdapterTune r128", "run"),
    ]


def test_one_row_spans_data_sets_when_each_has_its_own_learning_rate():
    trials = [
        completed(make_spec("lora", 0, dataset=name, training={"learning_rate": rate}, rank=8), 0.9)
        for name, rate in (("svhn", 0.1), ("cifar10", 0.2))
    ]
    table = table_of(make_study(trials))
    assert [row[1].text for row in table.rows] == ["LoRA r8"]


def test_rows_part_when_one_data_set_holds_both():
    trials = [
        completed(make_spec("lora", 0, dataset=name, training={"learning_rate": rate}, rank=8), 0.9)
        for name in ("svhn", "cifar10")
        for rate in (0.1, 0.2)
    ]
    table = table_of(make_study(trials))
    assert [row[1].text for row in table.rows] == ["LoRA r8 · learning rate 0.1", "LoRA r8 · learning rate 0.2"]


def test_stated_figures_stand_beside_measured_ones_when_all_pairs_are_in():
    table = paper_figures_table(analyse(paper_study(), no_curves))
    rows = {row[0].text.split(",")[0]: row for row in table.rows}
    gain, wins = rows["AdapterTune − head only"], rows["Pairs where AdapterTune's mean is above full fine-tuning's"]
    # By construction 15 points, give or take a tenth.
    assert gain[2].value == pytest.approx(0.15, abs=0.001)
    assert (gain[1].text, gain[3].text, gain[3].mark) == ("15 of 15", "+14.90", "cited")
    assert (wins[2].text, wins[3].text) == ("15 of 15", "10 of 15")
    # 10,000 of 1,000,000 parameters.
    assert rows["AdapterTune's trained parameters"][2].text == "1.00"


def test_stated_figure_is_missing_when_a_pair_has_no_result():
    table = paper_figures_table(analyse(paper_study(num_run=60), no_curves))
    assert {row[2].text for row in table.rows} == {"missing"}


def test_stated_figures_are_left_out_when_the_study_plans_other_pairs():
    assert paper_figures_table(analyse(paper_study(CORE_DATASETS[:4]), no_curves)).rows == ()


def test_forms_tell_cited_from_run_when_written(core):
    markdown, latex = to_markdown(core), to_latex(core)
    assert "*unknown*" in markdown
    assert "98.90 *cited*" in markdown
    assert r"{98.90 \emph{cited}}" in latex
    assert r"\bfseries 8" in latex
    rows = list(csv.DictReader(io.StringIO(to_csv(core))))
    assert {row["source"] for row in rows} == {"run", "published"}
    assert {row["run_ids"] for row in rows if row["source"] == "published"} == {""}


def test_files_and_sections_are_written_when_the_study_is_the_papers(tmp_path):
    study = make_study([], paper_specs(("cifar10",)), name="paper")
    report = build_report(study, no_curves, tmp_path)
    assert {path.suffix for path in (tmp_path / "tables").glob("paper.*")} == {".md", ".tex", ".csv"}
    assert "## In the paper's layout" in (tmp_path / "report.md").read_text()
    assert 'id="table-paper"' in report.index.read_text()
