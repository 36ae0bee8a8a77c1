import math

import pytest

from benchmark.result import TrialStatus
from reports.conditions import count_statuses, find_missing, group_conditions
from tests.unit.reports.synthetic import completed, failed, make_spec, make_study


def test_conditions_hold_their_seeds_when_trials_are_shuffled():
    trials = [completed(make_spec("head_only", seed), 0.8 + seed / 100) for seed in (2, 0, 1)]
    (condition,) = group_conditions(make_study(trials))
    assert condition.scores("test") == {0: 0.8, 1: 0.81, 2: pytest.approx(0.82)}
    assert condition.planned_seeds == (0, 1, 2)
    assert condition.run_ids == tuple(trials[index].run_id for index in (1, 2, 0))


def test_id_is_readable_when_method_has_options():
    spec = make_spec("adaptertune", 0, rank=16, placement="every:2", init="zero")
    (condition,) = group_conditions(make_study([completed(spec, 0.9)]))
    assert condition.id == f"vit_nano/digits/adaptertune-r16-every:2-zero-{condition.condition_id[:6]}"


def test_label_names_the_learning_rate_when_it_tells_conditions_apart():
    trials = [completed(make_spec("lora", 0, training={"learning_rate": rate}, rank=4), 0.9) for rate in (0.1, 0.2)]
    labels = [condition.label for condition in group_conditions(make_study(trials))]
    assert labels == ["LoRA r4 · learning rate 0.1", "LoRA r4 · learning rate 0.2"]


@pytest.mark.parametrize("status", [status for status in TrialStatus if status is not TrialStatus.COMPLETED])
def test_only_completed_trials_enter_when_others_failed(status):
    good, bad = completed(make_spec("head_only", 0), 0.9), failed(make_spec("head_only", 1), status)
    study = make_study([good, bad])
    (condition,) = group_conditions(study)
    (missing,) = find_missing(study, [condition])
    assert condition.scores("test") == {0: 0.9}
    assert (missing.seed, missing.status, missing.reason) == (1, status.value, "boom")


def test_missing_seed_is_named_when_it_did_not_run():
    specs = [make_spec("head_only", seed) for seed in range(2)]
    study = make_study([completed(specs[0], 0.9)], specs)
    (missing,) = find_missing(study, group_conditions(study))
    assert (missing.seed, missing.status, missing.run_id) == (1, "NOT_RUN", None)


@pytest.mark.parametrize("score", [None, math.nan])
def test_seed_counts_as_missing_when_its_score_is_no_number(score):
    study = make_study([completed(make_spec("head_only", 0), score)])
    (condition,) = group_conditions(study)
    assert condition.scores("test") == {}
    assert find_missing(study, [condition])[0].reason == "completed without a finite test top-1"


def test_pruned_trials_are_not_missing_when_the_study_searches():
    trials = [
        completed(make_spec("head_only", 0), None, 0.9),
        failed(make_spec("lora", 0, rank=4), TrialStatus.PRUNED),
    ]
    study = make_study(trials, spec={"kind": "search"})
    assert find_missing(study, group_conditions(study)) == []


def test_completed_trial_counts_when_a_failure_of_it_is_stored_too():
    spec = make_spec("head_only", 0)
    study = make_study([failed(spec), completed(spec, 0.9), failed(spec)], [spec])
    assert count_statuses(study) == {"COMPLETED": 1}


def test_statuses_sum_to_the_plan_when_some_did_not_run():
    specs = [make_spec("head_only", seed) for seed in range(3)]
    study = make_study([completed(specs[0], 0.9), failed(specs[1])], specs)
    assert count_statuses(study) == {"COMPLETED": 1, "FAILED": 1, "NOT_RUN": 1}
