"""Ensembles and soups in a report: worked by hand, matched by image, absent with their reason."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from benchmark.errors import MissingError
from benchmark.result import TrialStatus
from reports.build import summarise
from reports.combinations import MOST_RUNS_READ, combine
from reports.combinations_table import combinations_table
from reports.conditions import find_missing, group_conditions
from reports.record_tables import trials_csv
from tests.unit.reports.synthetic import completed, failed, make_spec, make_study, no_curves, plan

LABELS = np.array([0, 0, 1, 1])
LOGITS = {
    # Alone each seed is right on two images of four; their mean [2, 0], [-1, 2], [0, 1], [1, 2] on three.
    0: np.array([[3.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 3.0]]),
    1: np.array([[1.0, 0.0], [-2.0, 3.0], [-1.0, 2.0], [2.0, 1.0]]),
}


def seeds(method="lora", scores=(0.5, 0.5), **options):
    return [completed(make_spec(method, seed, **options), score, 0.6 + seed / 10) for seed, score in enumerate(scores)]


def soup_spec(trials, recipe):
    members = [trial.result.trial_id for trial in trials]
    return {**trials[0].result.spec, "soup": {"recipe": recipe, "members": members}}


def soup(trials, recipe="greedy", test=0.75, kept=1):
    tracked = completed(soup_spec(trials, recipe), test, 0.8)
    result = tracked.result.model_copy(update={"soup_members": [one.result.trial_id for one in trials][:kept]})
    return dataclasses.replace(tracked, result=result)


def reader(trials, order=slice(None)):
    by_run = {trial.run_id: LOGITS[min(int(trial.result.spec["seed"]), 1)] for trial in trials}

    def read(run_id):
        names = np.array([f"image-{number}" for number in range(4)])
        rows = order if run_id == trials[0].run_id else slice(None)
        logits = by_run[run_id]
        return {"identity": names[rows], "label": LABELS[rows], "logits": logits[rows]}

    return read


def combined(study, read=None):
    return combine(study, group_conditions(study), read)


def test_ensemble_equals_hand_computed_when_two_seeds():
    trials = seeds()
    (found,) = combined(make_study(trials), reader(trials))
    assert (found.kind, found.num_members, found.num_passes) == ("logit ensemble", 2, 2)
    assert found.test == 0.75
    assert found.gain == pytest.approx(0.25)
    # Against seed 1, the best on validation: right on images 0 and 2; the ensemble on 0, 2 and 3.
    assert (found.against_seed.only_a, found.against_seed.only_b) == (1, 0)
    interval = stats.binomtest(3, 4).proportion_ci(0.95, method="wilson")
    assert found.interval == pytest.approx((interval.low, interval.high))


def test_images_are_matched_by_name_when_a_seed_has_another_order():
    trials = seeds()
    (found,) = combined(make_study(trials), reader(trials, order=[3, 1, 0, 2]))
    assert found.test == 0.75


def test_ensemble_is_absent_with_its_reason_when_logits_are_gone():
    def read(run_id):
        raise MissingError("predictions.parquet is not there")

    (found,) = combined(make_study(seeds()), read)
    assert (found.test, found.run_ids) == (None, ())
    assert "is not there" in found.reason


def test_one_seed_is_no_ensemble_when_the_other_failed():
    trials = [seeds()[0], failed(make_spec("lora", 1))]
    assert combined(make_study(trials), reader(trials)) == []


def test_best_condition_alone_is_read_when_there_are_too_many_runs():
    number = MOST_RUNS_READ // 2
    trials = [
        completed(make_spec(method, seed), 0.5, score)
        for method, score in (("lora", 0.6), ("bitfit", 0.7), ("ssf", 0.65))
        for seed in range(number)
    ]
    found = combined(make_study(trials), reader(trials))
    assert [one.condition.method for one in found] == ["bitfit"]


def test_soup_stands_beside_its_condition_and_in_no_statistic_of_seeds():
    trials = seeds(scores=(0.5, 0.6))
    study = make_study([*trials, soup(trials)])
    study = dataclasses.replace(study, spec={**study.spec, "soups": ["greedy"]})
    (condition,) = group_conditions(study)
    assert condition.planned_seeds == (0, 1)
    (found,) = combined(study)
    assert (found.kind, found.num_members, found.num_offered, found.num_passes) == ("greedy soup", 1, 2, 1)
    assert (found.validation, found.test) == (0.8, 0.75)
    assert found.gain == pytest.approx(0.2)
    summary = summarise(study, no_curves)
    assert summary["num_trials"] == 3
    assert summary["conditions"][0]["num_seeds"] == 2
    assert summary["combinations"][0]["kind"] == "greedy soup"


def test_soup_is_compared_with_the_best_seed_when_predictions_are_there():
    trials = seeds()
    extra = soup(trials)
    study = make_study([*trials, extra])
    study = dataclasses.replace(study, spec={**study.spec, "soups": ["greedy"]})
    ensemble, greedy = combined(study, reader([*trials, extra]))
    # The soup's logits are those of seed 0: right on images 0 and 3, seed 1 on 0 and 2.
    assert (greedy.against_seed.only_a, greedy.against_seed.only_b) == (1, 1)
    assert greedy.p_value_holm == ensemble.p_value_holm == 1.0


def test_soup_has_a_row_with_its_reason_when_it_is_not_there():
    trials = seeds()
    waiting = make_study(trials, [*(trial.result.spec for trial in trials), soup_spec(trials, "uniform")])
    waiting = dataclasses.replace(waiting, spec={**waiting.spec, "soups": ["uniform"]})
    assert [one.reason for one in combined(waiting)] == ["not run yet"]
    lost = failed(soup_spec(trials, "uniform"), TrialStatus.OUT_OF_MEMORY, "no room")
    ended = dataclasses.replace(waiting, trials=[*trials, lost])
    assert [one.reason for one in combined(ended)] == ["OUT_OF_MEMORY: no room"]
    (missing,) = find_missing(ended, group_conditions(ended))
    assert missing.label == "LoRA · uniform soup"


def test_soup_says_why_when_the_seeds_tensors_cannot_be_averaged():
    trials = seeds()
    other = trials[1].result.provenance.model_copy(update={"frozen_sha256_before": "0" * 64})
    trials[1] = dataclasses.replace(trials[1], result=trials[1].result.model_copy(update={"provenance": other}))
    study = make_study(trials)
    study = dataclasses.replace(study, spec={**study.spec, "soups": ["uniform"]})
    (found,) = combined(study)
    assert "different frozen tensors" in found.reason


def test_every_reading_of_the_test_split_is_listed_when_soups_were_made():
    from reports.analysis import analyse
    from reports.record_tables import test_reads_table as reads_table

    trials = seeds()
    study = make_study([*trials, soup(trials, "uniform"), soup(trials, "greedy")])
    rows = reads_table(analyse(study, no_curves)).rows
    assert sorted(row[3].text for row in rows) == ["LoRA", "LoRA", "LoRA · greedy soup", "LoRA · uniform soup"]
    assert "soup" in trials_csv(study).splitlines()[0]


def test_table_writes_what_is_absent_as_absent():
    trials = seeds()
    study = make_study(trials, [*(trial.result.spec for trial in trials), plan(soup_spec(trials, "uniform")).spec])
    study = dataclasses.replace(study, spec={**study.spec, "soups": ["uniform"]})
    (row,) = combinations_table(combined(study)).rows
    assert [cell.text for cell in row[4:]] == ["–"] * 7
