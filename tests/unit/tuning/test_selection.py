"""Guards that a selection reads validation alone, is locked as it was made, and is confirmed over new seeds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmark.documents import validated
from benchmark.errors import RequestError
from benchmark.result import Scores, TrialResult, TrialStatus
from benchmark.tracking import StudyRecord, TrackedTrial
from tests.unit.reports.synthetic import make_study
from tuning.confirming import confirmation
from tuning.selection import LockFile, lock, read_lock, select, write_lock
from tuning.study import Setting, Study, expand
from tuning.study_spec import StudySpec

RATES = [1e-3, 3e-3, 1e-2]


def search_spec(**change: Any) -> StudySpec:
    values: dict[str, Any] = {
        "name": "tuned",
        "kind": "search",
        "backbone": "vit_nano",
        "dataset": "digits",
        "method": ["head_only", {"name": "lora", "rank": [2, 4]}],
        "seed": [0, 1],
        "training": {"epochs": 2, "warmup_epochs": 1, "global_batch_images": 64},
        "search": {"by": "grid", "space": {"training.learning_rate": RATES}},
        "confirm": {"seed": [5, 6, 7]},
        "claims": [{"id": "better", "text": "LoRA wins", "a": {"method": "lora"}, "b": {"method": "head_only"}}],
    }
    return validated(StudySpec, {**values, **change}, "")


Scoring = Callable[[Setting, int], tuple[float, float] | None]


def best_at_3e3(setting: Setting, seed: int) -> tuple[float, float]:
    """Give the second learning rate the best mean, though another one has the best single seed."""
    rate = setting.values["training.learning_rate"]
    scores = {1e-3: (0.5, 0.5), 3e-3: (0.8, 0.7), 1e-2: (0.9, 0.1)}
    return scores[rate][seed], 1.0  # type: ignore[index]


def tracked(study: Study, scoring: Scoring = best_at_3e3) -> StudyRecord:
    trials = []
    for setting in study.settings:
        for seed in study.spec.seed:
            spec = setting.condition.model_copy(update={"seed": seed})
            scored = scoring(setting, seed)
            result = TrialResult(
                trial_id=spec.trial_id,
                condition_id=spec.condition_id,
                spec=spec.model_dump(),
                status=TrialStatus.COMPLETED if scored else TrialStatus.DIVERGED,
                validation=scored and Scores(top1=scored[0], mean_per_class=scored[0], loss=scored[1], num_images=180),
            )
            trials.append(TrackedTrial(f"run-{spec.trial_id}", result))
    return make_study(trials)


def locked_from(study: Study, scoring: Scoring = best_at_3e3) -> LockFile:
    record = tracked(study, scoring)
    return lock(study, record, [selected for _, selected in select(study, record).values()], ["a warning"])


def test_best_mean_over_seeds_is_selected_for_every_method() -> None:
    chosen = select(expand(search_spec()), tracked(expand(search_spec())))
    assert {unit.method: selected.values for unit, (_, selected) in chosen.items()} == {
        "head_only": {"training.learning_rate": 3e-3},
        "lora": {"training.learning_rate": 3e-3, "method.rank": 2},
    }
    head = next(selected for unit, (_, selected) in chosen.items() if unit.method == "head_only")
    assert head.validation_top1_mean == pytest.approx(0.75)
    assert (head.num_settings, head.num_scored, head.num_image_passes) == (3, 3, 3 * 2 * 2)


def test_lower_loss_is_selected_when_the_accuracies_are_equal() -> None:
    study = expand(search_spec())
    chosen = select(study, tracked(study, lambda setting, seed: (0.5, setting.values["training.learning_rate"])))  # type: ignore[return-value]
    assert {selected.values["training.learning_rate"] for _, selected in chosen.values()} == {1e-3}


def test_setting_with_a_failed_seed_is_not_eligible() -> None:
    def scoring(setting: Setting, seed: int) -> tuple[float, float] | None:
        return None if setting.values["training.learning_rate"] == 3e-3 and seed == 1 else best_at_3e3(setting, seed)

    study = expand(search_spec())
    chosen = select(study, tracked(study, scoring))
    assert {selected.values["training.learning_rate"] for _, selected in chosen.values()} == {1e-3}
    assert {selected.num_scored for _, selected in chosen.values()} == {2, 4}


def test_nothing_is_selected_while_a_trial_is_open() -> None:
    study = expand(search_spec())
    record = tracked(study)
    record.trials.pop()
    with pytest.raises(RequestError, match="1 of 18 trials have not ended"):
        select(study, record)


def test_nothing_is_selected_when_no_setting_completed_or_nothing_was_searched() -> None:
    study = expand(search_spec())
    with pytest.raises(RequestError, match="none of the 3 settings of head_only completed"):
        select(study, tracked(study, lambda setting, seed: None))
    fixed = {"kind": "confirm", "search": None, "confirm": None, "claims": []}
    with pytest.raises(RequestError, match="only a study of kind search"):
        select(expand(search_spec(**fixed)), tracked(study))


def test_locked_selection_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    locked = locked_from(expand(search_spec()))
    write_lock(locked, tmp_path / "locked.yaml")
    again = read_lock(tmp_path / "locked.yaml", search_spec())
    assert again == locked
    assert again.record.warnings == ["a warning"]


@pytest.mark.parametrize(
    ("old", "new", "change", "said"),
    [
        ("0.003", "0.01", {}, "edited after it was locked"),
        ("study: tuned", "study: other", {}, "not one of tuned"),
        ("", "", {"training": {"epochs": 9}}, "has changed since the selection"),
        ("", "", {"search": {"by": "grid", "space": {"training.learning_rate": [1e-3]}}}, "has changed since"),
    ],
)
def test_lock_is_refused_when_it_or_the_search_was_changed(
    old: str, new: str, change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "locked.yaml"
    write_lock(locked_from(expand(search_spec())), path)
    path.write_text(path.read_text().replace(old, new) if old else path.read_text())
    with pytest.raises(RequestError, match=said):
        read_lock(path, search_spec(**change))


def test_lock_holds_when_claims_seeds_of_the_confirmation_or_resources_change(tmp_path: Path) -> None:
    path = tmp_path / "locked.yaml"
    write_lock(locked_from(expand(search_spec())), path)
    read_lock(path, search_spec(claims=[], confirm={"seed": 9}, resources={"workers_per_trial": 2}, question="?"))


def test_confirmation_runs_the_selection_over_its_own_seeds_and_reads_the_test_split() -> None:
    spec = search_spec()
    locked = locked_from(expand(spec))
    study = confirmation(spec, locked)
    trials = [(trial.spec.method.name, trial.spec.training.learning_rate, trial.spec.seed) for trial in study.trials]
    assert trials == [(name, 3e-3, seed) for name in ("head_only", "lora") for seed in (5, 6, 7)]
    assert {trial.spec.reads_test for trial in study.trials} == {True}
    assert {trial.spec.dataset.split for trial in study.trials} == {"fixed"}
    assert (study.spec.name, study.spec.kind) == ("tuned-confirm", "confirm")
    assert study.spec.locked is not None
    assert study.spec.locked.sha256 == locked.sha256


def test_last_epoch_is_tested_when_the_confirmation_trains_on_validation_too() -> None:
    spec = search_spec(confirm={"seed": 5, "fit_on": "train_and_validation"})
    study = confirmation(spec, locked_from(expand(spec)))
    presented = {(trial.spec.dataset.split, trial.spec.protocol.selection) for trial in study.trials}
    assert presented == {("train_and_validation", "last_epoch")}


def test_confirmation_is_refused_when_the_search_does_not_say_how() -> None:
    spec = search_spec(confirm=None)
    with pytest.raises(RequestError, match=r"confirm: \{seed: \[0, 1, 2, 3, 4\]\}"):
        confirmation(spec, locked_from(expand(spec)))


def test_confirmation_is_refused_when_a_claim_selects_nothing_in_it() -> None:
    claim = {"id": "gone", "text": "?", "a": {"method": "lora", "rank": 4}, "b": {"method": "head_only"}}
    spec = search_spec(claims=[claim])
    with pytest.raises(RequestError, match="rank"):
        confirmation(spec, locked_from(expand(spec)))
