"""Puts tensors into a model: every one of them, or an error that names what does not fit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmark.backbones.parts.timm_family import ways_to_mend
from benchmark.errors import RequestError

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

HEAD_PREFIXES = ("head.",)
"""The pretrained classifier, dropped knowingly: every trial trains a head of its own."""

NUM_NAMED_KEYS = 6


def load_strictly(
    build: Callable[[int], VisionTransformer],
    tensors: Mapping[str, Tensor],
    name: str,
    source: str,
    pretrained_size_pixels: int,
) -> VisionTransformer:
    """Build the model at the size its position embeddings are for, and fill every parameter from `tensors`.

    A classifier in them is dropped, and so is what timm's own conversion leaves out knowingly: the representation layer
    before the head, DINOv2's mask token, the text half of a CLIP checkpoint. Values become float32.

    Args:
        build: Builds the model for an image size in pixels.
        tensors: By timm's names, or by the original authors' where timm converts them (OpenCLIP, DINOv2).
        name: The backbone's pinned name, for errors.
        source: The file, or the hub, for errors.
        pretrained_size_pixels: Used where the tensors do not say a size.

    Raises:
        RequestError: A tensor is missing, left over, or of another shape.
    """
    from timm.models.vision_transformer import checkpoint_filter_fn

    with torch.device("meta"):
        model = build(pretrained_size_pixels)
        side = _size_of(tensors, model, pretrained_size_pixels)
        model = build(side) if side != pretrained_size_pixels else model
    _refuse_other_patches(tensors, model, name, source)
    adapted = checkpoint_filter_fn(dict(tensors), model, adapt_layer_scale=True)
    kept = {key: tensor for key, tensor in adapted.items() if not key.startswith(HEAD_PREFIXES)}
    _refuse_misfits(kept, model, name, source)
    model.load_state_dict({key: tensor.to(torch.float32) for key, tensor in kept.items()}, strict=True, assign=True)
    return model.requires_grad_(True)


def resize_input(model: VisionTransformer, image_size_pixels: int) -> None:
    """Make the model take images of this size; timm resamples its position embeddings (bicubic, antialiased)."""
    if model.patch_embed.img_size != (image_size_pixels, image_size_pixels):
        model.set_input_size((image_size_pixels, image_size_pixels))


def _size_of(tensors: Mapping[str, Tensor], model: VisionTransformer, default_pixels: int) -> int:
    """Return the image size, in pixels, that position embeddings of this length are for."""
    positions = tensors.get("pos_embed")
    if positions is None or model.pos_embed is None or positions.dim() != 3:
        return default_pixels
    num_other_tokens = 0 if model.no_embed_class else model.num_prefix_tokens
    if "register_tokens" in tensors:  # the authors' DINOv2 files keep the CLS token's position with the others
        num_other_tokens = 1
    grid = math.isqrt(max(positions.shape[1] - num_other_tokens, 0))
    if grid == 0 or grid * grid + num_other_tokens != positions.shape[1]:
        return default_pixels
    return int(grid * model.patch_embed.patch_size[0])


def _refuse_other_patches(tensors: Mapping[str, Tensor], model: VisionTransformer, name: str, source: str) -> None:
    """Refuse patches or positions of another size, which timm's conversion would resample before the checksum."""
    for key, tensor in tensors.items():
        is_patch_kernel = key.endswith(("patch_embed.proj.weight", "visual.conv1.weight"))
        if is_patch_kernel and tensor.dim() == 4 and tensor.shape[-2:] != model.patch_embed.proj.weight.shape[-2:]:
            own, theirs = model.patch_embed.patch_size[0], tensor.shape[-1]
            raise _misfit(source, name, f"its patches are of {theirs} pixels, those of {name} of {own}")
    positions = tensors.get("visual.positional_embedding")
    if positions is not None and model.pos_embed is not None and len(positions) != model.pos_embed.shape[1]:
        raise _misfit(source, name, f"it has {len(positions)} positions, {name} has {model.pos_embed.shape[1]}")


def _refuse_misfits(tensors: Mapping[str, Tensor], model: VisionTransformer, name: str, source: str) -> None:
    expected = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    found = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    reasons = []
    if missing := [key for key in expected if key not in found]:
        reasons.append(f"missing: {_listed(missing)}")
    if unexpected := [key for key in found if key not in expected]:
        reasons.append(f"not part of it: {_listed(unexpected)}")
    shapes = [
        f"{key} {found[key]} instead of {expected[key]}"
        for key in expected
        if found.get(key, expected[key]) != expected[key]
    ]
    if shapes:
        reasons.append(f"of another shape: {_listed(shapes)}")
    if reasons:
        raise _misfit(source, name, "; ".join(reasons))


def _misfit(source: str, name: str, reason: str) -> RequestError:
    return RequestError(
        "backbone.weights", source, f"these are not the weights of {name}: {reason}", ways_to_mend(name)
    )


def _listed(keys: list[str]) -> str:
    more = f" and {len(keys) - NUM_NAMED_KEYS} more" if len(keys) > NUM_NAMED_KEYS else ""
    return ", ".join(keys[:NUM_NAMED_KEYS]) + more
