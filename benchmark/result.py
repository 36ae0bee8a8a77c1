"""What a trial leaves behind: its status, scores, curves, cost and provenance, as one JSON document.

The per-image predictions and the adapter's weights travel beside it as bytes (`TrialOutcome`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from benchmark.errors import MissingError

RESULT_SCHEMA_VERSION = 1
"""Of `TrialResult`. Fields that come later have a default, so older records are read; a field that changes its meaning
raises the version, and a newer record is refused rather than misread."""


class TrialStatus(StrEnum):
    """How a trial ended. Every one of them is stored."""

    COMPLETED = "COMPLETED"
    PRUNED = "PRUNED"
    DIVERGED = "DIVERGED"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    TIMED_OUT = "TIMED_OUT"
    NODE_LOST = "NODE_LOST"
    FAILED = "FAILED"

    @property
    def is_final(self) -> bool:
        """Whether a rerun would only repeat it: such a trial never runs again."""
        return self in (TrialStatus.COMPLETED, TrialStatus.PRUNED, TrialStatus.DIVERGED)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class EpochRecord(_Record):
    """What one epoch measured. Epoch 0 is the model before its first step."""

    epoch: int = Field(description="1-based; 0 is before training")
    train_loss: float | None = Field(description="mean cross-entropy over the epoch's steps; none at epoch 0")
    validation_loss: float = Field(description="mean cross-entropy over the validation images")
    validation_top1: float = Field(description="fraction in [0, 1]")
    feature_drift: float = Field(description="1 - mean cosine to the pretrained features, fixed validation images")
    learning_rate: float = Field(description="at the epoch's last step")
    train_seconds: float = Field(description="in training steps")
    evaluation_seconds: float = Field(description="in evaluation steps")


class Scores(_Record):
    """Accuracy on one split, every image counted exactly once."""

    top1: float = Field(description="fraction in [0, 1]")
    mean_per_class: float = Field(description="mean over classes of the class's accuracy, fraction in [0, 1]")
    loss: float = Field(description="mean cross-entropy")
    num_images: int


class Cost(_Record):
    """What a trial cost."""

    num_trainable_parameters: int = Field(description="adapters and head")
    num_adapter_parameters: int = Field(description="trainable without the head")
    num_total_parameters: int
    train_seconds: float = Field(
        description="in training steps, all epochs, this trial's ranks in parallel; in a pack its share of the pack's"
    )
    evaluation_seconds: float = Field(description="in evaluation steps")
    wall_seconds: float = Field(
        description="from the start of the trial to its result, worker start included; in a pack its share"
    )
    train_images_per_second: float | None
    peak_memory_bytes: int | None = Field(
        description="largest resident (CPU) or allocated (GPU) size of a rank; none in a pack"
    )
    checkpoint_bytes: int
    forward_flops_per_image: int | None = Field(default=None, description="a multiply-add is two")
    training_flops_per_image: int | None = Field(default=None, description="forward and backward pass")
    energy_joules: float | None = Field(
        default=None, description="of rank 0's device while the trial ran, whatever else it did; none if not reported"
    )


class Provenance(_Record):
    """Where a result comes from."""

    weights_sha256: str = Field(description="over the tensors really loaded, before any resampling")
    backbone_licence: str | None = Field(
        default=None,
        description="terms of the backbone's weights, with `(non-commercial)` where they say so; none if random",
    )
    split_sha256: str
    frozen_sha256_before: str = Field(description="over the frozen tensors, before the first step")
    frozen_sha256_after: str = Field(description="the same after training; equal, or the trial failed")
    sources_sha256: str = Field(description="digest of the suite's sources that the ranks imported")
    git_commit: str | None
    git_dirty: bool | None
    packages: dict[str, str] = Field(description="package name to version")
    python: str
    device: str = Field(description="device type and name")
    host: str
    user: str | None = Field(default=None, description="who ran it, by the name on that machine; none if it has none")
    launch_plan: dict[str, Any] = Field(description="workers, micro-batch, accumulation, ZeRO stage")
    pack_size: int = Field(default=1, description="trials that trained in one pass with this one, itself included")
    started_at: str = Field(description="ISO 8601, UTC")
    finished_at: str = Field(description="ISO 8601, UTC")


class TrialResult(_Record):
    """The record of one trial, whatever its status. What was not reached is none, never zero."""

    schema_version: int = RESULT_SCHEMA_VERSION
    trial_id: str
    condition_id: str
    spec: dict[str, Any] = Field(description="the TrialSpec, complete")
    status: TrialStatus
    reason: str | None = Field(default=None, description="why it did not complete")
    epochs: list[EpochRecord] = Field(default_factory=list)
    first_step_losses: list[float] = Field(default_factory=list, description="of the first 100 optimiser steps")
    selected_epoch: int | None = Field(default=None, description="whose weights were tested")
    validation: Scores | None = Field(default=None, description="at the selected epoch")
    soup_members: list[str] = Field(default_factory=list, description="trials whose tensors a soup really averages")
    test: Scores | None = Field(default=None, description="read once, at the end")
    test_read_at: str | None = Field(default=None, description="ISO 8601, UTC: when the test split was opened")
    confusion: list[list[int]] | None = Field(default=None, description="test images, row: label, column: prediction")
    class_names: list[str] = Field(default_factory=list, description="one a class, in the labels' order")
    cost: Cost | None = None
    provenance: Provenance | None = None

    @field_validator("schema_version")
    @classmethod
    def _version_is_known(cls, version: int) -> int:
        if version > RESULT_SCHEMA_VERSION:
            raise MissingError(
                f"a result was written by a newer version of the suite (record {version}, this one reads up to "
                f"{RESULT_SCHEMA_VERSION}): install that version"
            )
        return version


@dataclass(frozen=True)
class TrialOutcome:
    """A finished trial as its first rank hands it over.

    Attributes:
        result: The record.
        predictions: `.npz` bytes: `identity` (str, [N]), `label` (int64, [N]), `logits` (float32, [N, C]) of the test
            images; none unless completed.
        checkpoint: safetensors bytes of the tested trainable tensors; none unless completed.
    """

    result: TrialResult
    predictions: bytes | None = None
    checkpoint: bytes | None = None


def why_not_averaged(results: Sequence[TrialResult]) -> str | None:
    """Return why a mean of completed trials' tensors would be no model of their condition; none where it is one.

    Args:
        results: Of trials that differ in their seed alone.
    """
    origins = [result.provenance for result in results if result.provenance is not None]
    if len(origins) < 2:
        return "fewer than two seeds have completed"
    if len({origin.split_sha256 for origin in origins}) > 1:
        return "the seeds have different splits: what one was trained on, another would be chosen on"
    if len({origin.frozen_sha256_before for origin in origins}) > 1:
        return "the seeds have different frozen tensors, which the trained ones belong to"
    return None
