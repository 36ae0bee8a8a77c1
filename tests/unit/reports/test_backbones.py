"""Guards that a report says what backbones its numbers stand on: licences, assumed tags, random weights."""

from __future__ import annotations

from typing import Any

from benchmark.tracking import StudyRecord, TrackedTrial
from reports.analysis import analyse
from reports.conditions import group_conditions
from reports.markdown import markdown_page
from reports.page import html_page, report_tables
from reports.provenance import cautions, disagreements, provenance_facts
from tests.unit.reports.synthetic import completed, make_provenance, make_spec, make_study, no_curves

RESTRICTED = "CC-BY-NC-4.0 (non-commercial)"


def _trial(seed: int, backbone: dict[str, Any], **provenance: Any) -> TrackedTrial:
    spec = make_spec("head_only", seed)
    tracked = completed({**spec, "backbone": {**spec["backbone"], **backbone}}, 0.9 + seed / 100, 0.9)
    origin = make_provenance().model_copy(update=provenance)
    return TrackedTrial(tracked.run_id, tracked.result.model_copy(update={"provenance": origin}))


def _random_study() -> StudyRecord:
    weights = {"weights": "random", "weights_sha256": None}
    return make_study([_trial(seed, weights, weights_sha256=str(seed) * 64) for seed in range(3)])


def _texts(study: StudyRecord) -> dict[str, str]:
    tables = report_tables(analyse(study, no_curves), [])
    return {name: str(table.rows) for name, table in tables.items() if table.rows}


def test_every_table_says_so_when_weights_are_random() -> None:
    texts = _texts(_random_study())
    assert {"results", "costs", "test_reads"} <= texts.keys()
    assert [name for name, text in texts.items() if "random weights" not in text] == []


def test_no_table_says_so_when_weights_are_pretrained() -> None:
    texts = _texts(make_study([_trial(seed, {}) for seed in range(3)]))
    assert [name for name, text in texts.items() if "random weights" in text] == []


def test_page_names_the_backbone_when_weights_are_random() -> None:
    analysis = analyse(_random_study(), no_curves)
    assert "- Random weights: vit_nano" in markdown_page(analysis, [])
    assert "Random weights" in html_page(analysis, [])


def test_trials_agree_when_random_weights_differ_by_seed() -> None:
    assert disagreements(group_conditions(_random_study())) == []


def test_trials_disagree_when_pretrained_weights_differ() -> None:
    study = make_study([_trial(seed, {}, weights_sha256=str(seed) * 64) for seed in range(2)])
    assert disagreements(group_conditions(study)) == ["Weights of vit_nano: 2 values"]


def test_trials_agree_when_a_study_names_two_files_of_one_backbone() -> None:
    files = [{"weights": "file", "weights_sha256": digit * 64} for digit in "ab"]
    study = make_study([_trial(0, file, weights_sha256=file["weights_sha256"]) for file in files])
    assert disagreements(group_conditions(study)) == []


def test_report_shows_the_licence_when_weights_are_non_commercial() -> None:
    analysis = analyse(make_study([_trial(0, {}, backbone_licence=RESTRICTED)]), no_curves)
    assert cautions(analysis.conditions) == [("Non-commercial weights", "vit_nano")]
    assert RESTRICTED in html_page(analysis, [])
    assert "- Non-commercial weights: vit_nano" in markdown_page(analysis, [])


def test_licence_is_listed_without_caution_when_it_is_permissive() -> None:
    conditions = group_conditions(make_study([_trial(0, {}, backbone_licence="Apache-2.0")]))
    facts = {fact.name: fact.values for fact in provenance_facts(conditions)}
    assert facts["Licence of vit_nano"] == (("Apache-2.0", 1),)
    assert cautions(conditions) == []


def test_report_says_assumed_when_the_paper_pinned_the_tag() -> None:
    backbone = {"name": "deit_tiny_patch16_224.fb_in1k", "assumed_from": "deit_tiny_patch16_224"}
    conditions = group_conditions(make_study([_trial(0, backbone)]))
    assert cautions(conditions) == [("Assumed tags", "deit_tiny_patch16_224.fb_in1k")]
    facts = {fact.name: fact.values for fact in provenance_facts(conditions)}
    assert facts["Tag of deit_tiny_patch16_224, assumed"] == (("deit_tiny_patch16_224.fb_in1k", 1),)
