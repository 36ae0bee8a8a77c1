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
from benchmark.training.evaluation import Evaluator
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


@functools.lru_cache(maxsize=8)
def pretrained_features(
    backbone: BackboneSpec,
    dataset: DatasetSpec,
    seed: int,
    presentation: Presentation,
    evaluator: Evaluator,
    num_first_images: int | None = None,
) -> Float[Tensor, "images width"]:
    """Return the features before adaptation on the validation images; kept in the process for later trials.

    Every rank calls it at the same time, since each computes its share.

    Args:
        backbone: Of the trial.
        dataset: Of the trial.
        seed: It matters to random weights and to splits that follow it.
        presentation: How images are shown.
        evaluator: The trial's, whose batches make the features equal, to the bit, to those of an untouched model.
        num_first_images: Of the first so many images; none for all.
    """
    model = load_pinned(backbone, seed).model.to(evaluator.device)
    choose_attention(model, evaluator)
    validation = open_images(open_dataset(dataset, seed), "validation", presentation)
    return evaluator.outputs(model, validation, num_first_images)


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
