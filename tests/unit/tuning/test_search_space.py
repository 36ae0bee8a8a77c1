"""Guards what a search tries: equally many settings for every method, and the same draws for shared fields."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from benchmark.errors import RequestError
from benchmark.spec import TrialSpec
from tuning.fairness import budget_warnings, selection_warnings
from tuning.schema import study_json_schema
from tuning.search_settings import Ended
from tuning.search_space import Range
from tuning.study import Study, load_study
from tuning.study import expand as expand_study
from tuning.study_spec import StudySpec

RATES = {"low": 1e-4, "high": 1e-1, "scale": "log"}


def expand(**change: Any) -> Study:
    values: dict[str, Any] = {
        "name": "tuned",
        "kind": "search",
        "backbone": "vit_nano",
        "dataset": "digits",
        "method": ["head_only", {"name": "lora", "rank": [2, 4, 8]}],
        "seed": [0],
        "training": {"epochs": 2, "warmup_epochs": 1},
        "search": {"settings": 5, "space": {"training.learning_rate": RATES}},
    }
    from benchmark.documents import validated

    return expand_study(validated(StudySpec, {**values, **change}, ""))


def refusal(**change: Any) -> str:
    with pytest.raises(RequestError) as refused:
        expand(**change)
    return str(refused.value)


def values_of(study: Study, method: str) -> list[dict[str, Any]]:
    return [dict(setting.values) for setting in study.settings if setting.unit.method == method]


def test_every_method_gets_equally_many_different_settings() -> None:
    study = expand()
    assert Counter(setting.unit.method for setting in study.settings) == {"head_only": 5, "lora": 5}
    assert len(study.trials) == len({trial.spec.trial_id for trial in study.trials}) == 10
    assert budget_warnings(study) == []


def tpe(**change: Any) -> dict[str, Any]:
    return {
        "by": "tpe",
        "settings": 12,
        "startup": 4,
        "at_once": 4,
        "space": {"training.learning_rate": RATES},
        **change,
    }


def expand_with(scores: dict[str, float | None], **change: Any) -> Study:
    """Return the study of which these trials have ended."""
    ended = {trial_id: Ended(score) for trial_id, score in scores.items()}
    return expand_study(expand(**change).spec, ended.get)


def run_to_the_end(score: Callable[[TrialSpec], float | None], **change: Any) -> Study:
    """Return a sequential search of which every round has run, with scores by a rule."""
    scores: dict[str, float | None] = {}
    study = expand(**change)
    while study.num_trials_to_come:
        scores |= {trial_id: score(spec) for trial_id, spec in study.trial_specs.items()}
        study = expand_with(scores, **change)
    return study


def near_a_hundredth(spec: TrialSpec) -> float:
    """Score a trial by how near its learning rate is to 1e-2, on a log scale."""
    return 1.0 - abs(math.log10(spec.training.learning_rate) + 2.0) / 3.0


def test_first_settings_of_tpe_are_those_of_a_random_search() -> None:
    sequential = expand(search=tpe())
    assert values_of(sequential, "lora") == values_of(expand(), "lora")[:4]
    assert (len(sequential.trials), sequential.num_trials_to_come, sequential.num_trials) == (8, 16, 24)


def test_next_round_of_tpe_is_known_when_the_one_before_has_ended() -> None:
    first = expand(search=tpe(), seed=[0, 1])
    scores = {trial_id: near_a_hundredth(spec) for trial_id, spec in first.trial_specs.items()}
    half = dict(list(scores.items())[: len(scores) // 2])
    assert len(expand_with(half, search=tpe(), seed=[0, 1]).settings) == 8 + 4  # one method's round has ended
    assert len(expand_with(scores, search=tpe(), seed=[0, 1]).settings) == 8 + 8
    scores.popitem()
    assert len(expand_with(scores, search=tpe(), seed=[0, 1]).settings) == 8 + 4


def test_rounds_of_tpe_are_the_same_when_asked_for_again() -> None:
    assert run_to_the_end(near_a_hundredth, search=tpe()) == run_to_the_end(near_a_hundredth, search=tpe())


def test_tpe_tries_values_nearer_the_best_than_a_random_search_does() -> None:
    sequential = run_to_the_end(near_a_hundredth, method="head_only", search=tpe(settings=24))
    random = expand(method="head_only", search={"settings": 24, "space": {"training.learning_rate": RATES}})
    later = [near_a_hundredth(setting.condition) for setting in sequential.settings[8:]]
    drawn = [near_a_hundredth(setting.condition) for setting in random.settings[8:]]
    assert sum(later) / len(later) > sum(drawn) / len(drawn) + 0.05


def test_budget_of_tpe_is_the_same_for_every_method_when_trials_fail() -> None:
    study = run_to_the_end(lambda spec: None, search=tpe())
    assert Counter(setting.unit.method for setting in study.settings) == {"head_only": 12, "lora": 12}
    assert len(study.trials) == 24


def test_tpe_is_refused_when_there_are_not_as_many_settings() -> None:
    space = {"training.learning_rate": [1e-4, 1e-3, 1e-2]}
    with pytest.raises(RequestError, match="no more than 3 different settings"):
        run_to_the_end(near_a_hundredth, method="head_only", search=tpe(settings=5, startup=2, space=space))


def test_rounds_are_refused_when_the_search_is_not_sequential() -> None:
    assert "only a search by tpe has startup and at_once" in refusal(search={**tpe(), "by": "random"})


def test_methods_try_the_same_values_of_a_field_they_share() -> None:
    study = expand()
    rates = {name: [v["training.learning_rate"] for v in values_of(study, name)] for name in ("head_only", "lora")}
    assert rates["head_only"] == rates["lora"]
    assert all(1e-4 <= rate <= 1e-1 for rate in rates["lora"])
    drawn = [setting.condition.training.learning_rate for setting in study.settings]
    assert drawn == rates["head_only"] + rates["lora"]


def test_settings_are_the_same_whenever_a_study_is_read_and_others_under_another_seed() -> None:
    search = {"settings": 5, "space": {"training.learning_rate": RATES}}
    assert values_of(expand(), "lora") == values_of(expand(), "lora")
    assert values_of(expand(), "lora") != values_of(expand(search={**search, "seed": 1}), "lora")


def test_further_settings_come_after_the_earlier_ones_when_the_budget_grows() -> None:
    more = expand(search={"settings": 8, "space": {"training.learning_rate": RATES}})
    assert values_of(more, "lora")[:5] == values_of(expand(), "lora")


def test_own_training_field_goes_before_the_shared_one() -> None:
    study = expand(method=[{"name": "full_finetune", "learning_rate": [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]}])
    assert {v["method.learning_rate"] for v in values_of(study, "full_finetune")} == {1e-5, 1e-4, 1e-3, 1e-2, 1e-1}


def test_grid_tries_all_combinations() -> None:
    search = {
        "by": "grid",
        "space": {"training.learning_rate": [1e-3, 1e-2], "protocol.augmentation": ["none", "shift"]},
    }
    study = expand(search=search)
    assert len(values_of(study, "head_only")) == 4
    assert len(values_of(study, "lora")) == 12
    assert {setting.condition.protocol.augmentation for setting in study.settings} == {"none", "shift"}
    assert budget_warnings(study) == ["unequal budgets: head_only 4, lora 12 settings"]


def test_several_methods_in_one_entry_are_tuned_apart() -> None:
    study = expand(method={"name": ["lora", "adaptertune"], "rank": [2, 4, 8]})
    assert Counter(setting.unit.method for setting in study.settings) == {"lora": 5, "adaptertune": 5}


def test_no_trial_of_a_search_reads_the_test_split_and_every_other_one_does() -> None:
    assert {trial.spec.reads_test for trial in expand().trials} == {False}
    assert {trial.spec.reads_test for trial in load_study("demo").trials} == {True}


def test_untuned_method_is_warned_of() -> None:
    study = expand(
        method=["lda_head", {"name": "lora", "rank": [2, 4, 8], "learning_rate": RATES}], search={"settings": 3}
    )
    assert budget_warnings(study) == [
        "unequal budgets: lda_head 1, lora 3 settings",
        "untuned: lda_head runs with one setting while others are tuned",
    ]


def test_unequal_passes_over_the_images_are_warned_of() -> None:
    study = expand(method=[{"name": "lora", "rank": 2}, {"name": "bitfit", "epochs": 4}])
    assert budget_warnings(study) == ["unequal budgets: lora 10, bitfit 20 passes over the training images"]


@pytest.mark.parametrize(
    ("value", "end"), [(2, "smallest"), (4, None), (8, "largest")], ids=["smallest", "inside", "largest"]
)
def test_optimum_at_the_edge_of_its_choices_is_warned_of(value: int, end: str | None) -> None:
    study = expand(search={"by": "grid", "space": {}})
    chosen = [setting for setting in study.settings if setting.values.get("method.rank") == value]
    warnings = selection_warnings(study, chosen)
    assert [f"is the {end} that was tried" in warning for warning in warnings] == ([True] if end else [])


def test_optimum_near_the_end_of_its_range_is_warned_of() -> None:
    study = expand(search={"settings": 60, "space": {"training.learning_rate": RATES}}, method="head_only")
    at_edge = [setting for setting in study.settings if selection_warnings(study, [setting])]
    rates = sorted(setting.values["training.learning_rate"] for setting in at_edge)  # type: ignore[type-var]
    assert rates
    assert all(rate < 1.5e-4 or rate > 6.5e-2 for rate in rates)  # a twentieth of three decades at each end


def test_mixed_presentation_is_warned_of() -> None:
    search = {"by": "grid", "space": {"protocol.selection": ["best_validation", "last_epoch"]}}
    study = expand(search=search, method="head_only")
    assert "mixed checkpoint rules: best_validation, last_epoch" in selection_warnings(study, study.settings)


def test_whole_numbers_are_drawn_with_both_ends_when_both_ends_are_whole() -> None:
    ranks = Range(low=2, high=5)
    assert {ranks.at(share / 100) for share in range(100)} == {2, 3, 4, 5}
    rate = Range(low=1e-4, high=1e-2, scale="log")
    assert (rate.at(0.0), rate.at(0.5)) == (1e-4, 1e-3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"search": None}, "a study of kind search has the part `search`"),
        ({"kind": "confirm"}, "a study of kind search has the part `search`"),
        ({"search": {"space": {}}}, "a search by random needs the number of settings"),
        ({"search": {"by": "grid", "settings": 4}}, "leave settings out"),
        ({"search": {"settings": 5, "space": {"learning_rate": [1e-3]}}}, "training.FIELD or protocol.FIELD"),
        ({"search": {"settings": 5, "space": {"training.learning_rat": [1e-3, 1e-2]}}}, "learning_rate"),
        ({"search": {"settings": 5, "space": {"training.learning_rate": {"low": 1, "high": 0.1}}}}, "must be smaller"),
        (
            {"search": {"settings": 5, "space": {"training.learning_rate": {"low": 0, "high": 1, "scale": "log"}}}},
            "log",
        ),
        ({"search": {"settings": 5, "space": {"training.learning_rate": []}}}, "an empty list leaves nothing to try"),
        ({"search": {"settings": 5, "space": {"training.learning_rate": [1e-3, 1e-2]}}}, "only 2 different settings"),
        ({"search": {"by": "grid", "space": {"training.learning_rate": RATES}}}, "a grid needs choices"),
        ({"method": {"name": "lora", "rank": {"low": 1, "hihg": 4}}}, "high"),
        ({"method": {"name": "lora", "match": [{"parameters": 5000}]}}, "one budget"),
        ({"method": {"name": "lora", "rank": [2, 4, 8, 16, 65]}}, "no bottleneck"),
    ],
)
def test_space_is_refused_with_the_field_and_the_rule_when_it_cannot_be_searched(
    change: dict[str, Any], said: str
) -> None:
    assert said in refusal(**change)


def test_schema_for_editors_knows_ranges_and_searches() -> None:
    schema = study_json_schema()
    assert {"search", "confirm"} <= schema["properties"].keys()
    rank = schema["$defs"]["method lora"]["properties"]["rank"]
    assert {"$ref": "#/$defs/Range"} in rank["anyOf"]
