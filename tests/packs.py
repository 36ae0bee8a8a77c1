"""Trials that differ in all that trials of one pack may differ in, and what they report."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmark.launch_plan import LaunchPlan
from benchmark.request import resolve_trial
from benchmark.result import TrialOutcome
from benchmark.spec import TrialSpec
from benchmark.training.trial import pack_steps

BATCH = 16
"""67 optimiser steps an epoch on digits' training images."""


def trial(method: Any, seed: int = 0, epochs: int = 1, augmentation: str = "shift", **training: Any) -> TrialSpec:
    fields = {"epochs": epochs, "warmup_epochs": 0.5, "global_batch_images": BATCH, "learning_rate": 3e-3, **training}
    protocol = {"name": "fair", "augmentation": augmentation}
    request = {"backbone": "vit_nano", "dataset": "digits", "method": method, "seed": seed}
    return resolve_trial({**request, "protocol": protocol, "training": fields})


def adapter(**options: Any) -> dict[str, Any]:
    return {"name": "adaptertune", "rank": 4, **options}


MIXED = {
    "all blocks": trial(adapter()),
    "another rank and rate": trial(adapter(rank=16), learning_rate=1e-3),
    "the last block, another seed": trial(adapter(placement="last:1", init="small"), seed=1),
    "one block, beside it, unclipped": trial(
        adapter(placement="blocks:3", form="parallel", init="houlsby", scale=0.5), gradient_clip_norm=None
    ),
    "inside the branches": trial(adapter(site="mlp", residual_add="before", dropout=0.2, init="bert")),
    "both branches": trial({"name": "houlsby", "rank": 4, "train_layer_norms": False}),
    "the head alone, smoothed labels": trial("head_only", weight_decay=0.0, label_smoothing=0.1),
    "more epochs": trial(adapter(placement="last:2", rank=2, drop_path=0.2), seed=1, epochs=2),
}


def reports_of(
    specs: Sequence[TrialSpec], plan: LaunchPlan, checkpoints: Sequence[bytes | None] | None = None
) -> dict[str, list[Any]]:
    """Train the trials in one pass, and return what each reported, by its id."""
    reports: dict[str, list[Any]] = {spec.trial_id: [] for spec in specs}
    for step in pack_steps(specs, plan, checkpoints or [None] * len(specs)):
        reports[step.trial_id].append(step.report)
    return reports


def logits_of(outcome: TrialOutcome) -> np.ndarray[Any, Any]:
    """Return the logits [images, classes] of the test split."""
    assert outcome.predictions is not None
    logits: np.ndarray[Any, Any] = np.load(io.BytesIO(outcome.predictions))["logits"]
    return logits
