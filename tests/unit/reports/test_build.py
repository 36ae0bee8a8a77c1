import csv
import dataclasses
import io
import json
import math
import re
from html.parser import HTMLParser

import pytest

from benchmark.errors import RequestError
from reports.build import build_report, summarise
from tests.unit.reports.synthetic import (
    completed,
    curves_of,
    failed,
    full_study,
    make_spec,
    make_study,
    no_curves,
)

CONDITION_FIELDS = {
    "id",
    "backbone",
    "dataset",
    "method",
    "rank",
    "placement",
    "init",
    "site",
    "num_seeds",
    "test_top1_mean",
    "test_top1_std",
    "interval_95",
    "num_trainable_parameters",
    "run_ids",
}
COMPARISON_FIELDS = {
    "a",
    "b",
    "difference_mean",
    "interval_95",
    "interval_method",
    "test",
    "num_pairs",
    "p_value",
    "p_value_holm",
}
TOP_FIELDS = {
    "schema_version",
    "study",
    "wall_seconds",
    "num_trials",
    "statuses",
    "conditions",
    "comparisons",
    "claims",
    "test_reads",
}


class Page(HTMLParser):
    """Collects ids, tags and addresses of a page."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.tags, self.addresses = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        values = dict(attrs)
        self.ids += [values["id"]] if "id" in values else []
        self.addresses += [values[name] for name in ("href", "src") if name in values]


def test_summary_has_the_schema_when_built(built):
    report, directory = built
    assert json.loads((directory / "summary.json").read_text()) == report.summary
    assert report.summary.keys() >= TOP_FIELDS
    assert all(condition.keys() >= CONDITION_FIELDS for condition in report.summary["conditions"])
    assert all(row.keys() >= COMPARISON_FIELDS for row in report.summary["comparisons"])
    assert all(claim.keys() >= {"id", "text", "verdict", "evidence"} for claim in report.summary["claims"])


def test_numbers_equal_their_definition_when_built(built):
    summary = built[0].summary
    assert summary["num_trials"] == 55
    assert summary["statuses"] == {"COMPLETED": 53, "OUT_OF_MEMORY": 1, "NOT_RUN": 1}
    # Wall 15 s less 10 s of training and 2 s of evaluation.
    assert summary["per_trial_overhead_seconds"] == pytest.approx(3.0)
    assert [claim["verdict"] for claim in summary["claims"]] == ["confirmed", "undecided", "contradicted"]
    assert summary["elbow"][0]["chosen_on"] == "validation"
    assert 0 < summary["elbow"][0]["confidence"] <= 1
    assert summary["elbow"][0]["num_paired_seeds"] == 4
    assert summary["elbow"][0]["excess_risk_fit"]["slope"] >= 0
    assert {missing["status"] for missing in summary["missing"]} == {"OUT_OF_MEMORY", "NOT_RUN"}


def test_all_files_are_written_when_built(built):
    directory = built[1]
    for name in ("rank", "excess_risk", "placement", "placement_map", "initialisation", "parameters"):
        assert {path.suffix for path in (directory / "figures").glob(f"{name}.*")} == {".png", ".svg", ".pdf"}
    for name in ("results", "comparisons", "claims", "missing", "costs", "test_reads", "elbows"):
        assert {path.suffix for path in (directory / "tables").glob(f"{name}.*")} == {".md", ".tex", ".csv"}
    assert not list(directory.glob(".draft-*"))


def test_trials_csv_has_a_row_a_trial_when_some_failed(built):
    rows = list(csv.DictReader(io.StringIO((built[1] / "trials.csv").read_text())))
    assert len(rows) == 55
    assert [row["run_id"] == "" for row in rows].count(True) == 1
    assert {row["status"] for row in rows} == {"COMPLETED", "OUT_OF_MEMORY", "NOT_RUN"}
    assert next(iter(rows[0])) == "trial_id"
    assert list(rows[0])[-1] == "run_id"


def test_page_needs_no_network_when_opened(built):
    page = Page(built[0].index.read_text())
    outside = [address for address in page.addresses if not address.startswith(("#", "data:"))]
    assert outside == []
    assert "http://" not in built[0].index.read_text()
    assert not {"img", "iframe", "object", "base"} & set(page.tags)
    assert page.tags.count("link") == 1


def test_page_ids_are_unique_and_targets_exist_when_figures_are_inside(built):
    page = Page(built[0].index.read_text())
    assert len(page.ids) == len(set(page.ids))
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= set(page.ids)


def test_page_names_every_run_when_tracking_is_local(built):
    text = built[0].index.read_text()
    run_ids = {run_id for condition in built[0].summary["conditions"] for run_id in condition["run_ids"]}
    assert all(run_id in text for run_id in run_ids)
    assert "adaptertune ui --tracking-uri sqlite:///tracking.db" in text


@pytest.mark.parametrize("name", ["index.html", "report.md"])
def test_no_path_of_one_machine_is_shown_when_tracking_is_local(built, name):
    assert "/tmp/some folder" not in (built[1] / name).read_text()


def test_figures_have_words_for_those_who_do_not_see_them_when_drawn(built):
    text = built[0].index.read_text()
    assert len(re.findall(r'<svg[^>]*role="img"[^>]*><title>[^<]+</title>', text)) == 6


def test_bytes_are_equal_when_built_twice(tmp_path):
    study = full_study(num_seeds=2, drop=False)
    trials = [trial for trial in study.trials if trial.result.spec["method"]["name"] == "adaptertune"][:8]
    small = make_study(trials)
    for name in ("one", "two"):
        build_report(small, no_curves, tmp_path / name)
    files = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*")]
    assert len(files) > 10
    assert [
        file for file in files if (tmp_path / "one" / file).read_bytes() != (tmp_path / "two" / file).read_bytes()
    ] == []


def test_earlier_figures_go_when_the_study_no_longer_has_them(tmp_path):
    (tmp_path / "figures").mkdir()
    for name in ("rank.svg", "own.svg"):
        (tmp_path / "figures" / name).write_text("old")
    report = build_report(make_study([]), no_curves, tmp_path)
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["own.svg"]
    assert set(report.summary["figures_left_out"]) == {
        "rank",
        "excess_risk",
        "placement",
        "placement_map",
        "initialisation",
        "parameters",
    }


def test_strict_names_every_missing_seed_when_refused(tmp_path):
    study = full_study()
    with pytest.raises(RequestError) as refused:
        build_report(study, curves_of(study), tmp_path / "report", strict=True)
    assert len(refused.value.problems) == 2
    assert "OUT_OF_MEMORY: CUDA out of memory" in str(refused.value)
    assert "full_finetune" in str(refused.value)
    assert not (tmp_path / "report").exists()


def test_report_says_so_when_no_trial_finished(tmp_path):
    specs = [make_spec("head_only", seed) for seed in range(2)]
    claim = {"id": "c", "text": "c", "a": {"method": "lora"}, "b": {"method": "head_only"}}
    study = make_study([failed(specs[0], reason="<script>")], specs, [claim], wall_seconds=None)
    report = build_report(study, no_curves, tmp_path)
    assert report.summary["findings"][0].startswith("No trial of this study has completed")
    assert report.summary["conditions"][0]["test_top1_mean"] is None
    assert "no seed has a score" in report.summary["conditions"][0]["reason"]
    assert report.summary["claims"][0]["verdict"] == "undecided"
    assert "wall_seconds: no run of the study has ended" in report.summary["reason"]
    assert "&lt;script&gt;" in report.index.read_text()


def test_interval_is_absent_with_reason_when_one_seed(tmp_path):
    study = make_study([completed(make_spec("head_only", 0), 0.9, 0.9), completed(make_spec("lora", 0, rank=2), 0.95)])
    summary = build_report(study, no_curves, tmp_path).summary
    assert summary["conditions"][0]["interval_95"] is None
    assert "interval_95: one seed: no interval" in summary["conditions"][0]["reason"]
    assert summary["comparisons"][0]["difference_mean"] == pytest.approx(0.05)
    assert "one seed" in summary["comparisons"][0]["reason"]


def test_summary_is_json_when_scores_are_not_numbers():
    study = make_study([completed(make_spec("head_only", seed), math.nan, None) for seed in range(2)])
    summary = summarise(study, no_curves)
    json.dumps(summary, allow_nan=False)
    assert summary["conditions"][0]["num_seeds"] == 0
    assert len(summary["missing"]) == 2


def test_summary_has_a_flat_interval_when_scores_are_identical():
    trials = [completed(make_spec(method, seed), 0.9, 0.9) for method in ("head_only", "bitfit") for seed in range(3)]
    summary = summarise(make_study(trials), no_curves)
    assert summary["comparisons"][0]["interval_95"] == [0.0, 0.0]
    assert summary["comparisons"][0]["p_value"] is None
    assert "t-test is undefined" in summary["comparisons"][0]["reason"]


def test_page_is_harmless_when_names_hold_specials(tmp_path):
    options = {"rank": 4, "placement": "<b>_%&$x$"}
    trials = [
        completed(make_spec("a<b>_%&$", seed, "back<b>bone_%", "da$ta&_^", init=init, **options), 0.9 + seed / 100, 0.9)
        for seed in range(2)
        for init in ("<i>", "zero")
    ]
    study = make_study(trials, name="study <b>_%&", tracking_uri="https://user:secret@host/mlflow")
    report = build_report(study, curves_of(study), tmp_path)
    page = report.index.read_text()
    assert Page(page).tags.count("b") == 0
    assert "secret" not in page
    assert "https://host/mlflow/#/experiments/1/runs/" in page
    assert "<b>" not in (tmp_path / "report.md").read_text()
    assert r"back\textless{}b\textgreater{}bone\_\%" in (tmp_path / "tables" / "results.tex").read_text()


def test_page_is_harmless_when_claims_and_questions_hold_specials(tmp_path):
    special = "\"><script>alert(1)</script> it's & $x$ `tick`\nsecond line"
    sides = {"a": {"init": "small"}, "b": {"init": "zero"}}
    trials = [
        completed(make_spec("adaptertune", seed, rank=4, placement="all", init=init), 0.9 + seed / 100, 0.9)
        for seed in range(2)
        for init in ("small", "zero")
    ]
    claim = {"id": f"../{special}", "text": special, **sides}
    study = make_study(trials, claims=[claim])
    study = dataclasses.replace(study, spec={**study.spec, "question": special})
    before = {path for path in tmp_path.parent.rglob("*") if tmp_path not in path.parents}
    report = build_report(study, curves_of(study), tmp_path)
    # The suite's own scripts are the only ones: the page's, and the list of runs, which is data.
    assert Page(report.index.read_text()).tags.count("script") == 2
    # A code span shows what is in it as it stands.
    assert "<script" not in re.sub(r"`[^`]*`", "", (tmp_path / "report.md").read_text())
    assert report.summary["claims"][0]["id"] == f"../{special}"
    assert {path for path in tmp_path.parent.rglob("*") if tmp_path not in path.parents} == before


def test_search_reports_validation_alone_when_test_was_never_read(tmp_path):
    trials = [completed(make_spec("lora", 0, rank=rank), None, 0.9 + rank / 1000) for rank in (4, 8)]
    report = build_report(make_study(trials, spec={"kind": "search"}), no_curves, tmp_path)
    assert report.summary["missing"] == []
    assert report.summary["comparisons"] == []
    assert "a search reads validation only" in report.summary["conditions"][0]["reason"]
    assert "validation top-1" in report.summary["findings"][1]


def test_request_is_refused_when_a_stored_claim_is_malformed():
    with pytest.raises(RequestError, match=r"claims\[0\]"):
        summarise(make_study([], claims=[{"id": "x"}]), no_curves)
