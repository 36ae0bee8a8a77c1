"""Guards what a search tries: equally many settings for every method, and the same draws for shared fields."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from benchmark.errors import RequestError
from tuning.fairness import budget_warnings, selection_warnings
from tuning.schema import study_json_schema
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
        ({"search": {"space": {}}}, "a random search needs the number of settings"),
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
