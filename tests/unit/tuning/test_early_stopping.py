"""Guards that a search gives up what falls behind within one method, and never a method for being another."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from benchmark.documents import validated
from benchmark.errors import RequestError
from benchmark.result import EpochRecord
from tuning.early_stopping import HalvingWithinUnits, halving_of
from tuning.study import Study, expand
from tuning.study_spec import StudySpec
from tuning.trainable import TRIAL_IDS


def study(epochs: int = 9, **stopping: Any) -> Study:
    values = {
        "name": "tuned",
        "kind": "search",
        "backbone": "vit_nano",
        "dataset": "digits",
        "method": ["head_only", {"name": "lora", "rank": 2}],
        "seed": [0],
        "training": {"epochs": epochs, "warmup_epochs": 0},
        "search": {
            "by": "grid",
            "space": {"training.learning_rate": [1e-4, 1e-3, 1e-2]},
            "early_stopping": {"reduction_factor": 2, **stopping},
        },
    }
    return expand(validated(StudySpec, values, ""))


@pytest.fixture
def searching() -> Study:
    return study()


def halving(searching: Study) -> HalvingWithinUnits:
    made = halving_of(searching)
    assert made is not None
    for trial in searching.trials:
        made.on_trial_add(None, as_tune(trial.spec.trial_id))
    return made


def as_tune(trial_id: str) -> Any:
    return SimpleNamespace(trial_id=f"tune-{trial_id}", config={TRIAL_IDS: trial_id})


def told(made: HalvingWithinUnits, trial_id: str, epoch: int, score: float) -> str:
    return made.on_trial_result(None, as_tune(trial_id), {"epoch": epoch, "validation_top1": score})


def ids_of(searching: Study, method: str) -> list[str]:
    return [trial.spec.trial_id for trial in searching.trials if trial.spec.method.name == method]


def test_trial_behind_the_better_half_of_its_own_method_is_given_up(searching: Study) -> None:
    made, heads = halving(searching), ids_of(searching, "head_only")
    assert [told(made, heads[0], 1, 0.5), told(made, heads[1], 1, 0.7)] == ["CONTINUE", "CONTINUE"]
    assert told(made, heads[2], 1, 0.4) == "STOP"


def test_method_that_starts_lower_is_not_given_up_for_another_one(searching: Study) -> None:
    made = halving(searching)
    for trial_id in ids_of(searching, "head_only"):
        told(made, trial_id, 1, 0.9)
    loras = ids_of(searching, "lora")
    assert [told(made, loras[0], 1, 0.1), told(made, loras[1], 1, 0.2)] == ["CONTINUE", "CONTINUE"]


def test_untouched_start_and_last_epoch_never_end_a_trial(searching: Study) -> None:
    made, heads = halving(searching), ids_of(searching, "head_only")
    for epoch in (0, 9):
        for trial_id, score in zip(heads, (0.9, 0.8, 0.1), strict=True):
            if epoch == 9:
                told(made, trial_id, 4, 0.5)
            assert told(made, trial_id, epoch, score) == "CONTINUE"


def test_trials_of_an_earlier_run_are_compared_with(searching: Study) -> None:
    made = halving_of(searching)
    assert made is not None
    heads = ids_of(searching, "head_only")
    for trial_id in heads[:2]:
        made.remember(trial_id, [record(epoch, 0.8) for epoch in range(10)])
    made.on_trial_add(None, as_tune(heads[2]))
    assert told(made, heads[2], 1, 0.5) == "STOP"


def test_grace_that_spans_the_whole_trial_is_refused() -> None:
    with pytest.raises(RequestError, match=r"search\.early_stopping\.grace_epochs: found 3.*Allowed: 1 to 2"):
        study(epochs=3, grace_epochs=3)


def record(epoch: int, score: float) -> EpochRecord:
    return EpochRecord(
        epoch=epoch,
        train_loss=None,
        validation_loss=1.0,
        validation_top1=score,
        feature_drift=0.0,
        learning_rate=0.0,
        train_seconds=0.0,
        evaluation_seconds=0.0,
    )
