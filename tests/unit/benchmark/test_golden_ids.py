"""Pins the identity of trials that were already run: a field added later must not move them.

The values are those of the study `demo` as first released. Whoever changes one on purpose raises the revision of the
method, data set, backbone or protocol whose numbers changed; anything else that moves one makes finished results
unfindable.
"""

from __future__ import annotations

from typing import Any

import pytest

from benchmark.request import resolve_trial

TRAINING = {"epochs": 5, "warmup_epochs": 1, "global_batch_images": 64, "learning_rate": 3.0e-3}


@pytest.mark.parametrize(
    ("method", "seed", "trial_id"),
    [
        ("head_only", 0, "e75613a899c9fd31"),
        ("head_only", 1, "8a24a9fc759c4448"),
        ({"name": "adaptertune", "rank": 1}, 0, "37d5ffd81104cf1f"),
        ({"name": "adaptertune", "rank": 8}, 0, "e5327f9126760a8e"),
        ({"name": "adaptertune", "rank": 32}, 1, "806b0c95ffbaa59e"),
        ({"name": "adaptertune", "rank": 8, "placement": "last:1"}, 0, "e591c6bf279d7121"),
        ({"name": "adaptertune", "rank": 8, "placement": "every:2"}, 1, "a97cbb59a1ead0b2"),
        ({"name": "adaptertune", "rank": 8, "placement": "blocks:2-3"}, 0, "0b16a1dca81cdfdc"),
        ({"name": "adaptertune", "rank": 8, "init": "xavier"}, 0, "4224561ec3ad47e2"),
        ({"name": "full_finetune", "learning_rate": 1.0e-3}, 1, "625fc1b6001a7f8d"),
    ],
)
def test_trial_id_is_the_released_one_when_fields_are_added(
    method: str | dict[str, Any], seed: int, trial_id: str
) -> None:
    request = {"backbone": "vit_nano", "dataset": "digits", "method": method, "seed": seed, "training": TRAINING}
    moved = "a field added later must be marked ADDED_LATER or NOT_HASHED (benchmark/spec.py)"
    assert resolve_trial(request).trial_id == trial_id, moved
