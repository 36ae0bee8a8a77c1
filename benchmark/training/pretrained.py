"""What a trial's pretrained features follow from: weights, split, and how images are presented; and these features."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmark.backbones.contract import find_backbone
from benchmark.datasets.contract import open_dataset
from benchmark.spec import BackboneSpec, DatasetSpec, TrialSpec
from benchmark.training.attention import choose_attention
from benchmark.training.evaluation import NUM_DRIFT_IMAGES, Evaluator
from benchmark.training.images import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    TORCHVISION_CROP_FRACTION,
    TORCHVISION_INTERPOLATION,
    Presentation,
    open_images,
)
from benchmark.training.model import load_pinned

if TYPE_CHECKING:
    from jaxtyping import Float


def drift_evaluator(device: str, precision: str, explicit_attention: bool = True) -> Evaluator:
    """Return how the drift is measured: by every rank on all of its images, so that no rank waits for another."""
    return Evaluator(
        rank=0,
        world_size=1,
        batch_images=NUM_DRIFT_IMAGES,
        device=torch.device(device),
        autocast_dtype=autocast_dtype_of(precision),
        explicit_attention=explicit_attention,
    )


@functools.lru_cache(maxsize=4)
def pretrained_drift_features(
    backbone: BackboneSpec, dataset: DatasetSpec, seed: int, presentation: Presentation, evaluator: Evaluator
) -> Float[Tensor, "images width"]:
    """Return the features before adaptation on the fixed validation images; kept in the process for later trials.

    The seed matters to random weights and to splits that follow it.
    """
    model = load_pinned(backbone, seed).model.to(evaluator.device)
    choose_attention(model, evaluator)
    validation = open_images(open_dataset(dataset, seed), "validation", presentation)
    return evaluator.outputs(model, validation, NUM_DRIFT_IMAGES)


def deciding_seed(spec: TrialSpec) -> int:
    """Return the seed where the pretrained features depend on it, else 0, so that trials share them."""
    return spec.seed if spec.backbone.weights == "random" or spec.dataset.split == "paper" else 0


def presentation_of(spec: TrialSpec) -> Presentation:
    """Return how a trial's protocol shows images to its backbone."""
    info = find_backbone(spec.backbone.name)
    own_colours = spec.protocol.normalisation == "backbone"
    own_resizing = spec.protocol.resizing == "backbone"
    crop_fraction = info.crop_fraction if own_resizing else TORCHVISION_CROP_FRACTION
    return Presentation(
        image_size_pixels=spec.backbone.image_size_pixels,
        interpolation=info.interpolation if own_resizing else TORCHVISION_INTERPOLATION,
        mean=info.mean if own_colours else IMAGENET_MEAN,
        std=info.std if own_colours else IMAGENET_STD,
        crop_fraction=1.0 if spec.protocol.centre_crop == "none" else crop_fraction,
    )


def autocast_dtype_of(precision: str) -> torch.dtype | None:
    """Return the compute type under autocast; none for plain fp32."""
    return torch.bfloat16 if precision == "bf16" else None
