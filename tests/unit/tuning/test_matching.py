"""Guards that a budget solves each method's size from its formula, and says what it cannot reach."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from benchmark.backbones.contract import find_backbone
from benchmark.errors import RequestError
from benchmark.methods.contract import find_method, method_names
from benchmark.training.estimate import estimate
from tuning.study import Study, expand, load_study
from tuning.study_spec import StudySpec

BUDGET = 20_000


def _study(method: Any, **keys: Any) -> Study:
    values = {"name": "matched", "backbone": "vit_nano", "dataset": "digits", "method": method, "seed": 0, **keys}
    return expand(StudySpec.model_validate(values))


def _refusal(method: Any, **keys: Any) -> str:
    with pytest.raises(RequestError) as refused:
        _study(method, **keys)
    return str(refused.value)


def test_rank_is_the_largest_within_the_budget_when_a_method_is_matched() -> None:
    spec = _study({"name": "adaptertune", "match": {"parameters": BUDGET}}).trials[0].spec
    # vit_nano: d = 64, L = 6, so L (2dr + r + d) = 774 r + 384: 19,734 at 25, 20,508 at 26
    assert spec.method.options["rank"] == 25
    assert spec.method.match is not None
    assert spec.method.match.achieved_parameters == 19_734


SIZED = [name for name in method_names() if find_method(name).size_option({}) is not None]


@pytest.mark.parametrize("name", SIZED)
def test_achieved_figure_is_the_formulas_when_a_method_has_a_size(name: str) -> None:
    spec = _study({"name": name, "match": {"parameters": BUDGET}}).trials[0].spec
    method = find_method(name)
    options = method.Options.model_validate(spec.method.options)
    assert spec.method.match is not None
    assert spec.method.match.achieved_parameters == method.count_parameters(options, find_backbone("vit_nano"))
    assert 0.8 * BUDGET < spec.method.match.achieved_parameters <= BUDGET  # one step of a size is under a fifth here


def test_trial_is_the_one_with_that_rank_when_matched() -> None:
    matched = _study({"name": "lora", "match": {"parameters": BUDGET}}).trials[0].spec
    given = _study({"name": "lora", "rank": 13}).trials[0].spec
    assert (matched.trial_id, matched.condition_id) == (given.trial_id, given.condition_id)


def test_method_without_a_size_runs_as_it_is_and_is_marked_when_the_study_is_matched() -> None:
    study = _study(["bitfit", "lora"], match={"parameters": BUDGET})
    records = {trial.spec.method.name: trial.spec.method.match for trial in study.trials}
    assert records["bitfit"] is not None
    assert (records["bitfit"].option, records["bitfit"].achieved_parameters) == (None, 3584)  # 56 d, d = 64
    assert records["lora"] is not None
    assert records["lora"].option == "rank"


def test_several_budgets_span_a_grid_when_given_as_a_list() -> None:
    study = _study({"name": "lora", "match": [{"parameters": 5000}, {"parameters": BUDGET}]})
    assert [trial.spec.method.options["rank"] for trial in study.trials] == [3, 13]  # 4 d r L = 1,536 r


def test_other_options_count_when_a_size_is_solved() -> None:
    spec = _study({"name": "adaptertune", "placement": "last:2", "match": {"parameters": 5000}}).trials[0].spec
    assert spec.method.options["rank"] == 18  # 2 (129 r + 64) = 258 r + 128


def test_size_falls_with_its_count_when_more_rank_means_fewer_parameters() -> None:
    spec = _study({"name": "peft", "peft_type": "RANDLORA", "match": {"parameters": BUDGET}}).trials[0].spec
    assert spec.method.match is not None
    assert 0 < spec.method.match.achieved_parameters <= BUDGET


@pytest.mark.parametrize("measure", ["training_flops", "memory_bytes"])
@pytest.mark.parametrize(
    ("entry", "size"),
    [({"name": "adaptertune"}, "rank"), ({"name": "lora"}, "rank"), ({"name": "peft", "peft_type": "LORA"}, "r")],
)
def test_size_is_the_largest_within_a_counted_budget(measure: str, entry: dict[str, Any], size: str) -> None:
    budget = _counted({**entry, size: 12})[measure]
    for asked, solved in ((budget, 12), (budget + 1, 12), (budget - 1, 11)):
        spec = _study({**entry, "match": {measure: asked}}).trials[0].spec
        assert spec.method.match is not None
        assert spec.method.options[size] == solved
        assert spec.method.match.achieved == _counted({**entry, size: solved})[measure]


def _counted(method: dict[str, Any]) -> dict[str, int]:
    trial = _study(method).trials[0]
    return asdict(estimate(trial.spec, trial.plan)) | {
        "training_flops": estimate(trial.spec, trial.plan).training_flops_per_image
    }


@pytest.mark.parametrize(
    ("method", "keys", "said"),
    [
        ({"name": "lora", "match": {"parameters": 100}}, {}, "Reachable: 1,536 to 98,304"),
        ({"name": "lora", "match": {"parameters": 10**9}}, {}, "Reachable: 1,536 to 98,304"),
        ({"name": "lora", "rank": 4, "match": {"parameters": BUDGET}}, {}, "match solves rank"),
        ({"name": "lora", "rank": 4}, {"match": {"parameters": BUDGET}}, "match solves rank"),
        ({"name": "bitfit", "match": {"parameters": BUDGET}}, {}, "size of bitfit cannot be chosen"),
        ({"name": "lora", "match": {"flops": 10**9}}, {}, "training_flops"),
        ("lora", {"match": {"memory": 10**9}}, "memory_bytes"),
        ("lora", {"match": {}}, "name one budget of parameters, training_flops, memory_bytes"),
        ("lora", {"match": {"parameters": BUDGET, "memory_bytes": 10**9}}, "name one budget"),
        ({"name": "lora", "match": {"training_flops": 10**4}}, {}, "Reachable: "),
        ({"name": "lora", "match": {"parametres": BUDGET}}, {}, "parameters"),
        ({"name": "lora", "alfa": 1.0, "match": {"parameters": BUDGET}}, {}, "alpha"),
        ({"name": "lora", "placement": "last:9", "match": {"parameters": BUDGET}}, {}, "placement"),
    ],
)
def test_budget_is_refused_with_the_reason_when_it_cannot_be_kept(method: Any, keys: Any, said: str) -> None:
    assert said in _refusal(method, **keys)


def test_every_method_is_in_the_shipped_study_when_it_is_expanded() -> None:
    study = load_study("methods")
    assert {trial.spec.method.name for trial in study.trials} == set(method_names())
    assert len(study.trials) == 3 * len(method_names())
