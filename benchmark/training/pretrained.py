"""What a trial's pretrained features follow from: weights, split, and how images are presented; and these features."""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from benchmark.backbones.contract import find_backbone
from benchmark.datasets.contract import Dataset, Split, open_dataset
from benchmark.spec import BackboneSpec, DatasetSpec, TrialSpec, as_canonical_json, hashed_fields
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
from benchmark.training.model import Depth, load_pinned
from benchmark.training.prefix import CACHE, PrefixBudget, PrefixedImages, PrefixKey

if TYPE_CHECKING:
    from jaxtyping import Float


@functools.lru_cache(maxsize=8)
def pretrained_features(
    backbone: BackboneSpec,
    dataset: DatasetSpec,
    seed: int,
    presentation: Presentation,
    evaluator: Evaluator,
    budget: PrefixBudget,
    num_first_images: int | None = None,
) -> Float[Tensor, "images width"]:
    """Return the features before adaptation on the validation images; kept in the process for later trials.

    Every rank calls it at the same time, since each computes its share. A rank alone keeps those of all images as the
    outputs of a frozen prefix, which trials of the head start from.

    Args:
        backbone: Of the trial.
        dataset: Of the trial.
        seed: It matters to random weights and to splits that follow it.
        presentation: How images are shown.
        evaluator: The trial's, whose batches make the features equal, to the bit, to those of an untouched model.
        budget: Where they may lie.
        num_first_images: Of the first so many images; none for all.
    """
    loaded = load_pinned(backbone, seed)
    model = loaded.model.to(evaluator.device).eval()
    choose_attention(model, evaluator)
    opened = open_dataset(dataset, seed)
    validation = open_images(opened, "validation", presentation)
    if num_first_images is None and evaluator.world_size == 1:
        depth = Depth(len(list(model.blocks.children())), is_pooled=True)
        key = prefix_key(backbone, dataset, seed, presentation, "validation", evaluator, loaded.weights_sha256, opened)
        kept = CACHE.prefixed(_Pretrained(model), depth, validation, key, evaluator, budget)
        if isinstance(kept, PrefixedImages):
            return kept.outputs.float().cpu()
    return evaluator.outputs(model, validation, num_first_images)


@dataclass(frozen=True)
class _Pretrained:
    """A backbone that is frozen as a whole."""

    backbone: nn.Module

    def prefix(self, pixels: Float[Tensor, "batch 3 size size"], depth: Depth) -> Float[Tensor, "batch width"]:
        pooled: Tensor = self.backbone(pixels)
        return pooled


def prefix_key(
    backbone: BackboneSpec,
    dataset: DatasetSpec,
    seed: int,
    presentation: Presentation,
    split: Split,
    evaluator: Evaluator,
    weights_sha256: str,
    opened: Dataset,
) -> PrefixKey:
    """Return what the outputs of a pretrained backbone's blocks on a split follow from.

    Args:
        backbone: Of the trial.
        dataset: Of the trial.
        seed: It matters to random weights and to splits that follow it.
        presentation: How images are shown.
        split: Whose images.
        evaluator: Its type, device and attention.
        weights_sha256: Of the weights.
        opened: The data set, whose images are hashed only where a file is named by them.
    """
    parts = [hashed_fields(backbone), hashed_fields(dataset), seed, asdict(presentation)]
    way = [str(evaluator.autocast_dtype), evaluator.device.type, evaluator.explicit_attention]
    return PrefixKey(
        as_canonical_json([*parts, *way, split]),
        lambda: f"{weights_sha256}/{opened.items(split).content_sha256}",
        {"name": f"{dataset.name}/{split}", "backbone": backbone.name, "image_size": backbone.image_size_pixels},
    )


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
