"""A real trial that ends as on a GPU too small: with torch's own error of CUDA, at a step of more images than fit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from benchmark.launch_plan import LaunchPlan
from benchmark.result import TrialOutcome
from benchmark.spec import TrialSpec
from benchmark.training import trial
from benchmark.training.packed_model import PackedClassifier
from benchmark.training.trial import EpochReport

MOST_IMAGES = 256

_forward = PackedClassifier.forward


def _limited_forward(self: PackedClassifier, inputs: Any, *criteria: Any) -> Any:
    if len(inputs[0]) > MOST_IMAGES:
        raise torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of ..."
        )
    return _forward(self, inputs, *criteria)


def trial_steps(
    spec: TrialSpec, plan: LaunchPlan, resume_from: bytes | None = None
) -> Iterator[EpochReport | TrialOutcome]:
    """Run a trial as the suite does, with that limit."""
    PackedClassifier.forward = _limited_forward  # type: ignore[method-assign]
    return trial.trial_steps(spec, plan, resume_from)
