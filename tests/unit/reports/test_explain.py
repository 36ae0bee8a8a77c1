import json

import pytest

from benchmark.errors import RequestError
from benchmark.result import TrialStatus
from benchmark.tracking import TrackedTrial
from reports.explain import Effect, as_document, explain, gap_text
from reports.sides import find_sides
from tests.integration.tracking_samples import trial_spec
from tests.unit.reports.synthetic import completed, failed, make_study


def trial(test=0.9, spec=None, run_id=None, **provenance):
    tracked = completed((spec or trial_spec()).model_dump(mode="json"), test, test)
    origin = tracked.result.provenance.model_copy(update=provenance)
    return TrackedTrial(run_id or tracked.run_id, tracked.result.model_copy(update={"provenance": origin}))


def explained(*trials, names=None):
    return explain(*find_sides(names or [one.run_id for one in trials], [make_study(trials)]))


def fields_of(explanation, can_explain=True):
    return [one.field for one in explanation.differences if one.can_explain is can_explain]


def test_likeliest_cause_comes_first_when_many_fields_differ():
    other = trial_spec(seed=1, rank=8)
    a = trial(0.95)
    b = trial(0.90, other, device="cuda H200", weights_sha256="b" * 64, packages={"torch": "2.12.0", "timm": "1.0.20"})
    explanation = explained(a, b)
    assert fields_of(explanation) == ["loaded.weights_sha256", "method.rank", "seed", "packages.torch", "device"]
    assert "5 differences could explain the gap of +5.00 points" in explanation.verdict
    assert explanation.gap.mean == pytest.approx(0.05)


def test_trial_id_tells_identity_from_the_rest_when_fields_differ():
    explanation = explained(trial(), trial(0.8, trial_spec(rank=8), python="3.12.1"))
    assert {one.field: one.effect for one in explanation.differences} == {
        "method.rank": Effect.IDENTITY,
        "python": Effect.SOURCE,
    }


def test_launch_plan_and_host_are_no_cause_when_they_alone_differ():
    plan = {"workers": 8, "micro_batch_images": 16, "zero_stage": 1}
    explanation = explained(trial(0.9), trial(0.8, run_id="other", launch_plan=plan, host="node-9", user="ada"))
    assert fields_of(explanation) == []
    assert set(fields_of(explanation, False)) == {
        "host",
        "user",
        "launch.micro_batch_images",
        "launch.workers",
        "launch.zero_stage",
    }
    assert "Nothing that may change a score differs, yet the gap is +10.00 points" in explanation.verdict


def test_equal_runs_are_said_to_be_equal_when_nothing_differs():
    explanation = explained(trial(0.9), trial(0.9, run_id="again"))
    assert explanation.verdict == "Nothing that may change a score differs, and the scores are equal."


def test_gap_is_the_spread_when_only_the_seed_differs():
    trials = [trial(score, trial_spec(seed=seed)) for seed, score in enumerate((0.90, 0.92, 0.94))]
    explanation = explain(*find_sides([trials[0].run_id, trials[1].run_id], [make_study(trials)]))
    assert fields_of(explanation) == ["seed"]
    # 0.90, 0.92, 0.94: standard deviation 0.02.
    assert (
        "the gap of −2.00 points is the spread over seeds, which has a standard deviation of 2.00"
        in explanation.verdict
    )


def test_default_that_one_side_leaves_unsaid_is_its_value_when_compared():
    plain = trial_spec()
    changed = plain.model_copy(update={"protocol": plain.protocol.model_copy(update={"centre_crop": "none"})})
    explanation = explained(trial(0.9), trial(0.8, changed))
    (difference,) = explanation.differences
    assert (difference.field, difference.a, difference.b) == ("protocol.centre_crop", "resizing", "none")


def test_where_the_files_lie_is_no_difference_when_their_content_is_the_same():
    plain = trial_spec()
    moved = plain.model_copy(update={"dataset": plain.dataset.model_copy(update={"root": "elsewhere"})})
    assert explained(trial(0.9), trial(0.9, moved, run_id="moved")).differences == ()


def test_conditions_are_compared_over_paired_seeds_when_named():
    a = [trial(0.90 + 0.01 * seed, trial_spec(seed=seed)) for seed in range(3)]
    b = [trial(0.80 + 0.02 * seed, trial_spec(seed=seed, rank=8)) for seed in range(2)]
    names = [a[0].result.condition_id, b[0].result.condition_id]
    explanation = explained(*a, *b, names=names)
    # Seeds 0 and 1: 0.10 and 0.09.
    assert (explanation.gap.mean, explanation.gap.num_pairs) == (pytest.approx(0.095), 2)
    assert fields_of(explanation) == ["method.rank"]
    assert "over 2 seeds" in gap_text(explanation)


def test_versions_are_joined_when_a_conditions_seeds_ran_on_several():
    a = [trial(0.9, trial_spec(seed=seed), python=f"3.1{seed}") for seed in (1, 2)]
    b = [trial(0.9, trial_spec(seed=1, rank=8), python="3.11")]
    explanation = explained(*a, *b, names=[a[0].result.condition_id, b[0].result.condition_id])
    (difference,) = [one for one in explanation.differences if one.field == "python"]
    assert (difference.a, difference.b) == ("3.11, 3.12", "3.11")


def test_gap_is_absent_when_a_side_failed():
    spec = trial_spec(rank=8).model_dump(mode="json")
    explanation = explained(trial(), failed(spec, TrialStatus.DIVERGED))
    assert "There is no gap to explain" in explanation.verdict
    assert json.loads(json.dumps(as_document(explanation), allow_nan=False))["gap_mean"] is None


def test_validation_stands_in_when_a_side_never_read_the_test_split():
    searched = completed(trial_spec(rank=8).model_dump(mode="json"), None, 0.7)
    assert explained(trial(0.9), searched).split == "validation"


def test_side_is_found_when_its_id_is_cut_short():
    a, b = trial(0.9), trial(0.8, trial_spec(rank=8))
    names = [a.result.trial_id[:8], b.result.trial_id]
    assert explained(a, b, names=names).a.name == a.run_id


@pytest.mark.parametrize(("name", "hint"), [("runabcd", "Did you mean"), ("nothing like it", "Valid: ")])
def test_nearest_ids_are_named_when_a_run_is_unknown(name, hint):
    a = trial(run_id="runabce")
    with pytest.raises(RequestError, match=r"RUN_B.*no tracked study has a run") as refused:
        find_sides([a.run_id, name], [make_study([a])])
    assert hint in str(refused.value)


def test_a_run_is_not_compared_with_a_condition_when_asked_to():
    a = trial()
    with pytest.raises(RequestError, match="two runs or two conditions"):
        find_sides([a.run_id, a.result.condition_id], [make_study([a])])


def test_all_fields_count_when_another_version_wrote_the_spec():
    older = completed({"method": {"name": "lora", "options": {"rank": 4}}, "gone": 1, "seed": 0}, 0.9)
    newer = completed({"method": {"name": "lora", "options": {"rank": 4}}, "gone": 2, "seed": 0}, 0.8)
    assert fields_of(explained(older, newer)) == ["gone"]
