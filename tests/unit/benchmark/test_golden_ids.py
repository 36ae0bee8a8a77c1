"""Pins the identity of trials that were already run: a field added later must not move them.

The values are those of the study `demo` with revision 2 of the protocol `fair`. Whoever changes one on purpose raises
the revision of the method, data set, backbone or protocol whose numbers changed; anything else that moves one makes
finished results unfindable.
"""

from __future__ import annotations

from typing import Any

import pytest

from benchmark.request import resolve_trial

TRAINING = {"epochs": 5, "warmup_epochs": 1, "global_batch_images": 64, "learning_rate": 3.0e-3}


@pytest.mark.parametrize(
    ("method", "seed", "trial_id"),
    [
        ("head_only", 0, "006b6dde8549c76a"),
        ("head_only", 1, "2e3bb1d2cd6dc9e8"),
        ({"name": "adaptertune", "rank": 1}, 0, "c5137df1f11e92b1"),
        ({"name": "adaptertune", "rank": 8}, 0, "77471546353e176a"),
        ({"name": "adaptertune", "rank": 32}, 1, "052fe0f8ac3a1c03"),
        ({"name": "adaptertune", "rank": 8, "placement": "last:1"}, 0, "e700e55fe2fa8109"),
        ({"name": "adaptertune", "rank": 8, "placement": "every:2"}, 1, "70df704e22a28de2"),
        ({"name": "adaptertune", "rank": 8, "placement": "blocks:2-3"}, 0, "bce4cea790134d7b"),
        ({"name": "adaptertune", "rank": 8, "init": "xavier"}, 0, "fc59186cab9a0ac0"),
        ({"name": "full_finetune", "learning_rate": 1.0e-3}, 1, "949a5211e9622e08"),
    ],
)
def test_trial_id_is_the_released_one_when_fields_are_added(
    method: str | dict[str, Any], seed: int, trial_id: str
) -> None:
    request = {"backbone": "vit_nano", "dataset": "digits", "method": method, "seed": seed, "training": TRAINING}
    moved = "a field added later must be marked ADDED_LATER or NOT_HASHED (benchmark/spec.py)"
    assert resolve_trial(request).trial_id == trial_id, moved
