"""What several tests share: small requests, and settings that keep a test process quiet and deterministic."""

from __future__ import annotations

from typing import Any

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Results are bit-equal only at the same number of threads."""
    torch.set_num_threads(1)


@pytest.fixture
def tiny_request() -> dict[str, Any]:
    """Return a trial that trains in a second."""
    return {
        "backbone": "vit_nano",
        "dataset": "digits",
        "method": {"name": "adaptertune", "rank": 4},
        "seed": 0,
        "training": {"epochs": 2, "warmup_epochs": 1, "global_batch_images": 256, "learning_rate": 3e-3},
    }
