"""Studies that no one plans: half-missing metrics, one condition, hundreds of them."""

import dataclasses

import numpy as np
import pytest

from reports.build import build_report
from reports.page import MOST_SHOWN_ROWS
from tests.unit.reports.synthetic import completed, curves_of, failed, make_spec, make_study, no_curves


def test_metric_is_absent_and_never_zero_when_some_trials_lack_it(tmp_path):
    trials = [
        completed(make_spec("head_only", 0), 0.8, None),
        completed(make_spec("head_only", 1), None, 0.8),
        completed(make_spec("lora", 0, rank=2), 0.9, 0.9),
        completed(make_spec("lora", 1, rank=2), 0.9, float("nan")),
    ]
    bare = trials[3].result.model_copy(update={"cost": None, "provenance": None})
    trials[3] = dataclasses.replace(trials[3], result=bare)
    summary = build_report(make_study(trials), curves_of(make_study(trials)), tmp_path).summary
    head, lora = summary["conditions"]
    assert (head["num_seeds"], head["test_top1_mean"], head["validation_top1_mean"]) == (1, 0.8, 0.8)
    assert (lora["num_seeds"], lora["num_validation_seeds"], lora["num_trainable_parameters"]) == (2, 1, 1000)
    # Paired on the one seed that both have.
    assert summary["comparisons"][0]["seeds"] == [0]
    assert [seed["seed"] for seed in summary["missing"]] == [1]


def test_report_stands_when_there_is_one_condition(tmp_path):
    trials = [completed(make_spec("adaptertune", seed, rank=8), 0.9 + seed / 100, 0.9) for seed in range(3)]
    summary = build_report(make_study(trials), no_curves, tmp_path).summary
    assert (len(summary["conditions"]), summary["comparisons"], summary["elbow"]) == (1, [], [])
    assert summary["findings"][2].startswith("No paired difference has an interval")


def test_every_condition_has_its_row_when_there_are_two_hundred(tmp_path):
    generator = np.random.default_rng(0)
    trials = [
        completed(make_spec("lora", seed, rank=rank, alpha=alpha), float(generator.uniform(0.8, 0.9)), 0.85)
        for rank in range(1, 51)
        for alpha in range(4)
        for seed in range(2)
    ]
    trials += [completed(make_spec("head_only", seed), 0.7, 0.7) for seed in range(2)]
    report = build_report(make_study(trials), no_curves, tmp_path)
    assert len(report.summary["conditions"]) == 201
    assert len({condition["label"] for condition in report.summary["conditions"]}) == 201
    assert report.index.read_text().count("<tr>") > 400
    assert len((tmp_path / "tables" / "results.csv").read_text().splitlines()) == 202


def test_page_says_how_many_rows_it_leaves_out_when_a_table_is_long(tmp_path):
    specs = [make_spec("head_only", seed) for seed in range(MOST_SHOWN_ROWS + 5)]
    study = make_study([failed(spec) for spec in specs], specs)
    page = build_report(study, no_curves, tmp_path).index.read_text()
    assert f"The first {MOST_SHOWN_ROWS} of {MOST_SHOWN_ROWS + 5} rows" in page
    assert len((tmp_path / "tables" / "missing.csv").read_text().splitlines()) == MOST_SHOWN_ROWS + 6


@pytest.mark.parametrize("num_shared", [0, 1])
def test_no_difference_is_invented_when_sides_share_few_seeds(tmp_path, num_shared):
    trials = [completed(make_spec("head_only", seed), 0.8, 0.8) for seed in (0, 1)]
    trials += [completed(make_spec("bitfit", seed), 0.9, 0.9) for seed in (2 - num_shared, 3 - num_shared)]
    (row,) = build_report(make_study(trials), no_curves, tmp_path).summary["comparisons"]
    assert (row["num_pairs"], row["interval_95"], row["p_value"]) == (num_shared, None, None)
