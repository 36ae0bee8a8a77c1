"""Which trials train in one pass."""

from __future__ import annotations

from typing import Any

from tuning.packing import packed
from tuning.study import expand
from tuning.study_spec import StudySpec

ADAPTER = {"name": "adaptertune", "rank": [2, 4, 8]}


def packs_of(method: list[Any], most: int = 8, num_slots: int = 1, **changes: Any) -> list[list[tuple[str, int]]]:
    written = {"name": "tiny", "backbone": "vit_nano", "dataset": "digits", "method": method, "seed": [0, 1]}
    trials = expand(StudySpec.model_validate({**written, **changes})).trials
    packs = packed(trials, most, num_slots)
    assert sorted(trial.spec.trial_id for pack in packs for trial in pack) == sorted(t.spec.trial_id for t in trials)
    return [[(trial.spec.method.name, trial.spec.seed) for trial in pack] for pack in packs]


def test_trials_of_one_seed_lie_together_when_a_pack_cannot_hold_all() -> None:
    assert packs_of([ADAPTER], most=3) == [[("adaptertune", 0)] * 3, [("adaptertune", 1)] * 3]


def test_packs_are_of_equal_sizes_when_the_largest_would_leave_a_rest() -> None:
    assert [len(pack) for pack in packs_of([{"name": "adaptertune", "rank": [1, 2, 3, 4, 5]}], most=8)] == [5, 5]


def test_every_slot_has_a_pack_when_there_are_few_trials() -> None:
    assert [len(pack) for pack in packs_of([ADAPTER], num_slots=2)] == [3, 3]
    assert [len(pack) for pack in packs_of([ADAPTER], num_slots=100)] == [1] * 6


def test_other_methods_train_alone_when_they_change_the_frozen_blocks() -> None:
    found = packs_of(["head_only", "full_finetune", {"name": "lora", "rank": 2}, {"name": "pfeiffer", "rank": 2}])
    assert [("head_only", 0), ("pfeiffer", 0), ("head_only", 1), ("pfeiffer", 1)] in found
    assert sorted(len(pack) for pack in found) == [1, 1, 1, 1, 4]


def test_trials_train_apart_when_data_batch_or_precision_differ() -> None:
    other = {"name": "adaptertune", "rank": 2, "precision": "bf16"}
    assert [len(pack) for pack in packs_of(["head_only", other])] == [2, 2]
    larger = {"name": "adaptertune", "rank": 2, "global_batch_images": 32}
    assert [len(pack) for pack in packs_of(["head_only", larger])] == [2, 2]


def test_trials_pack_when_their_splits_follow_their_seeds() -> None:
    assert [len(pack) for pack in packs_of(["head_only"], dataset="cifar100", protocol="paper")] == [2]


def test_every_trial_is_alone_when_packs_are_off_or_weights_follow_the_seed() -> None:
    assert [len(pack) for pack in packs_of([ADAPTER], most=1)] == [1] * 6
    random = {"name": "vit_nano", "weights": "random"}
    assert [len(pack) for pack in packs_of([ADAPTER], backbone=random)] == [1] * 6
