"""Guards a study's expansion, and that a wrong study is refused with its field, value, rule and nearest name."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmark.documents import validated
from benchmark.errors import RequestError
from tuning.study import Study, expand, load_study
from tuning.study_spec import StudySpec

HEAD = {"method": "head_only"}


def adapter(**options: Any) -> dict[str, Any]:
    return {"name": "adaptertune", "rank": 2, **options}


def make_study(**change: Any) -> Study:
    """Return a study of three conditions and two seeds, with some of its keys replaced."""
    values = {
        "name": "tiny",
        "backbone": "vit_nano",
        "dataset": "digits",
        "method": ["head_only", adapter(rank=[2, 4])],
        "seed": [0, 1],
        "training": {"epochs": 2, "warmup_epochs": 1, "global_batch_images": 256, "learning_rate": 3e-3},
    }
    return expand(validated(StudySpec, {**values, **change}, ""))


def ids_of(study: Study) -> list[str]:
    return [trial.spec.trial_id for trial in study.trials]


@pytest.fixture(scope="module")
def demo() -> Study:
    return load_study("demo")


def test_demo_has_every_seed_of_every_condition_when_expanded(demo: Study) -> None:
    # Its YAML: head only, 6 ranks, 7 placements, 5 initialisations and full fine-tuning, each with the seeds 0, 1, 2.
    conditions = Counter(trial.spec.condition_id for trial in demo.trials)
    seeds = {(trial.spec.condition_id, trial.spec.seed) for trial in demo.trials}
    assert len(conditions) == 1 + 6 + 7 + 5 + 1
    assert set(conditions.values()) == {3}
    assert seeds == {(condition, seed) for condition in conditions for seed in (0, 1, 2)}
    assert len(set(ids_of(demo))) == len(demo.trials) == 60


def test_full_finetuning_has_two_workers_when_the_demo_gives_them_by_method(demo: Study) -> None:
    workers = {(trial.spec.method.name, trial.plan.num_workers) for trial in demo.trials}
    assert workers == {("head_only", 1), ("adaptertune", 1), ("full_finetune", 2)}


def test_shared_cell_is_one_trial_when_two_grids_hold_it() -> None:
    shared = make_study(method=[adapter(rank=[2, 4]), adapter(rank=4, init=["zero", "small"])])
    assert len(shared.trials) == 3 * 2
    assert set(ids_of(make_study(method=[adapter(rank=4)]))) < set(ids_of(shared))


def test_every_combination_is_a_condition_when_two_options_are_lists() -> None:
    study = make_study(method=[adapter(rank=[2, 4], init=["zero", "small", "xavier"])], seed=0)
    cells = {(trial.spec.method.options["rank"], trial.spec.method.options["init"]) for trial in study.trials}
    assert cells == {(rank, init) for rank in (2, 4) for init in ("zero", "small", "xavier")}
    assert len(study.trials) == 6


def test_trials_keep_their_ids_when_only_the_workers_change() -> None:
    assert ids_of(make_study(resources={"workers_per_trial": 2})) == ids_of(make_study())


def test_setting_replaces_one_field_when_its_path_is_given() -> None:
    study = load_study("demo", ["training.epochs=2", "seed=[5]", "method=head_only", "claims=[]"])
    assert [(trial.spec.training.epochs, trial.spec.seed) for trial in study.trials] == [(2, 5)]
    assert study.spec.training["learning_rate"] == 3.0e-3


def claim(a: dict[str, Any], b: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"claims": [{"id": "wins", "text": "It wins", "a": a, "b": b or HEAD}]}


@pytest.mark.parametrize(
    ("change", "where", "found", "rule", "hint"),
    [
        pytest.param({"sed": 1}, "sed", 1, "there is no such key", "Did you mean 'seed'?", id="unknown key"),
        pytest.param(
            {"resources": {"worker_per_trial": 2}},
            "resources.worker_per_trial",
            2,
            "there is no such key",
            "Did you mean 'workers_per_trial' or 'min_workers_per_trial'?",
            id="unknown nested key",
        ),
        pytest.param(
            {"training": {"epoch": 2}}, "training.epoch", 2, "no such key", "'epochs'", id="unknown training key"
        ),
        pytest.param(
            {"method": [{"name": "adaptertune", "rank": 2, "plcement": "all"}]},
            "method[0].plcement",
            "all",
            "there is no such key",
            "Did you mean 'placement'?",
            id="unknown option",
        ),
        pytest.param({"seed": "0"}, "seed[0]", "0", "valid integer", "", id="text as seed"),
        pytest.param(
            {"resources": {"workers_per_trial": "2"}},
            "resources.workers_per_trial",
            "2",
            "valid integer",
            "",
            id="text as workers",
        ),
        pytest.param({"training": 3}, "training", 3, "valid dictionary", "", id="number as training"),
        pytest.param(
            {"method": [adapter(rank=2.0)]}, "method[0].rank", 2.0, "valid integer", "", id="fraction as rank"
        ),
        pytest.param(
            {"method": ["head_only", adapter(rank=[2, 0])]},
            "method[1].rank",
            0,
            "greater than or equal to 1",
            "",
            id="rank 0",
        ),
        pytest.param(
            {"method": ["head_only", adapter(rank=[2, 65])]},
            "method[1].rank",
            65,
            "above the backbone's width 64",
            "Allowed: 1 to 64.",
            id="rank above width",
        ),
        pytest.param(
            {"method": [adapter(placement=["all", "last:7"])]},
            "method[0].placement",
            "last:7",
            "does not fit a backbone of 6 blocks; K is 1 to 6",
            "",
            id="placement outside the depth",
        ),
        pytest.param(
            {"resources": {"workers_per_trial": 3}},
            "training.global_batch_images",
            256,
            "a multiple of workers x accumulation = 3 x 1",
            "The nearest that fits: 255.",
            id="batch the workers do not divide",
        ),
        pytest.param(
            {"resources": {"by_method": {"adaptertune": {"workers_per_trial": 5}}}},
            "training.global_batch_images",
            256,
            "a multiple of workers x accumulation = 5 x 1",
            "The nearest that fits: 255.",
            id="batch one method's workers do not divide",
        ),
        pytest.param({"seed": [0, -1]}, "seed", [0, -1], "a whole number from 0 to", "", id="negative seed"),
        pytest.param({"seed": [0, 1, 0]}, "seed", [0, 1, 0], "given twice", "", id="repeated seed"),
        pytest.param({"method": []}, "method", [], "at least 1 item", "", id="no method"),
        pytest.param({"seed": []}, "seed", [], "at least 1 item", "", id="no seed"),
        pytest.param(
            {"method": [adapter(rank=[])]}, "method[0].rank", [], "an empty list gives an empty grid", "", id="no rank"
        ),
        pytest.param(
            {"method": ["head_onli"]}, "method[0]", "head_onli", "no such name", "'head_only'?", id="unknown method"
        ),
        pytest.param({"backbone": ["vit_nan"]}, "backbone", "vit_nan", "no such", "'vit_nano'?", id="unknown backbone"),
        pytest.param({"dataset": "digit"}, "dataset", "digit", "no such", "'digits'?", id="unknown data set"),
        pytest.param(
            {"resources": {"by_method": {"adaptertun": {"workers_per_trial": 2}}}},
            "resources.by_method.adaptertun",
            "adaptertun",
            "there is no such name in methods",
            "'adaptertune'",
            id="unknown method in by_method",
        ),
        pytest.param(
            claim({"method": "adaptertune", "rank": 3}),
            "claims[0].a",
            {"method": "adaptertune", "rank": 3},
            "no planned condition matches",
            "rank: 2, 4.",
            id="claim matches nothing",
        ),
        pytest.param(
            claim({"method": "adaptertune", "rank": 4}, {"method": "adaptertune"}),
            "claims[0].b",
            {"method": "adaptertune"},
            "must match one condition in vit_nano × digits, it matches 2: adaptertune rank=2, adaptertune rank=4",
            "Name rank too.",
            id="claim matches several",
        ),
        pytest.param(
            claim({"methd": "adaptertune"}),
            "claims[0].a.methd",
            "adaptertune",
            "names fields of the study's trials",
            "Did you mean 'method'?",
            id="claim names an unknown field",
        ),
    ],
)
def test_study_is_refused_with_its_field_when_wrong(
    change: dict[str, Any], where: str, found: object, rule: str, hint: str
) -> None:
    with pytest.raises(RequestError) as refused:
        make_study(**change)
    (problem,) = refused.value.problems
    assert (problem.where, problem.found) == (where, found)
    assert rule in problem.rule
    assert hint in problem.hint


@pytest.mark.parametrize(
    ("setting", "rule"),
    [
        pytest.param("epochs", "must have the form key=value", id="no value"),
        pytest.param("=3", "must have the form key=value", id="no key"),
        pytest.param("training.epochs.x=3", "training.epochs is not a mapping", id="below a number"),
    ],
)
def test_setting_is_refused_when_malformed(setting: str, rule: str) -> None:
    with pytest.raises(RequestError) as refused:
        load_study("demo", [setting])
    (problem,) = refused.value.problems
    assert (problem.where, problem.found) == ("--set", setting)
    assert rule in problem.rule


def test_setting_is_refused_when_its_value_is_no_yaml() -> None:
    with pytest.raises(RequestError, match=r"--set: not readable as YAML: .*line 1"):
        load_study("demo", ["seed=[0"])


def test_nearest_key_is_named_when_a_setting_misspells_its_path() -> None:
    with pytest.raises(RequestError, match=r"trainng: found .*no such key\. Did you mean 'training'\?"):
        load_study("demo", ["trainng.epochs=3"])


def test_every_problem_is_named_when_a_study_has_several() -> None:
    with pytest.raises(RequestError) as refused:
        make_study(sed=1, seed=[-1], name="two words")
    assert {problem.where for problem in refused.value.problems} == {"sed", "seed", "name"}


def test_shipped_study_is_named_when_the_name_is_nearly_right() -> None:
    with pytest.raises(RequestError, match=r"study: found 'demoo'; .*Did you mean 'demo'\?"):
        load_study("demoo")


def test_file_is_read_when_its_path_is_given(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("{name: mine, backbone: vit_nano, dataset: digits, method: head_only, seed: 4}")
    assert [trial.spec.seed for trial in load_study(str(path)).trials] == [4]
