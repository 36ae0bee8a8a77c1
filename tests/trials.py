"""Specs for tests that need a trial but no training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.spec import BackboneSpec, DatasetSpec, MethodSpec, ProtocolSpec, Scalar, TrainingSpec, TrialSpec


@dataclass(frozen=True)
class TensorBatches:
    """Images that are ready: the rows of a tensor."""

    pixels: Tensor

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(self, rows: Tensor, device: torch.device | str) -> Tensor:
        return self.pixels[rows].to(device)


def make_spec(seed: int = 0, epochs: int = 2, **options: Scalar) -> TrialSpec:
    """Return a complete spec; `options` are its method's."""
    return TrialSpec(
        backbone=BackboneSpec(
            name="small.bundled", weights="bundled", weights_sha256="0" * 64, image_size_pixels=32, revision=1
        ),
        dataset=DatasetSpec(name="digits", split_sha256="0" * 64, revision=1),
        method=MethodSpec(name="head_only", revision=1, options=options),
        protocol=ProtocolSpec(
            name="fair", revision=1, normalisation="backbone", augmentation="none", selection="best_validation"
        ),
        training=TrainingSpec(epochs=epochs, warmup_epochs=0, global_batch_images=4),
        seed=seed,
    )
