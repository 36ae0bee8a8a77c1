"""What a timm model that is already there tells about itself, as methods need to know it."""

from __future__ import annotations

from typing import Any

from torch import nn

from benchmark.backbones.contract import BackboneInfo
from benchmark.errors import RequestError

UNKNOWN = "unknown"


def facts_of(model: nn.Module) -> BackboneInfo:
    """Return a Vision Transformer's facts, read from its modules; terms and source of its weights stay unknown.

    Args:
        model: One of timm's `VisionTransformer`s, with or without its head.

    Raises:
        RequestError: It is something else.
    """
    from timm.models.vision_transformer import VisionTransformer

    if not isinstance(model, VisionTransformer):
        rule = "must be a Vision Transformer of timm"
        raise RequestError("model", type(model).__name__, rule, "Make one with timm.create_model('vit_…').")
    parts: Any = model
    block, settings = parts.blocks[0], getattr(model, "pretrained_cfg", None) or {}
    width, head = int(model.embed_dim), model.get_classifier()
    return BackboneInfo(
        name=str(settings.get("architecture") or UNKNOWN),
        width=width,
        depth=len(parts.blocks),
        patch_size_pixels=int(parts.patch_embed.patch_size[0]),
        image_size_pixels=int(parts.patch_embed.img_size[0]),
        num_parameters=_num_parameters(model) - _num_parameters(head),
        mean=tuple(settings.get("mean", (0.5, 0.5, 0.5))),
        std=tuple(settings.get("std", (0.5, 0.5, 0.5))),
        interpolation=str(settings.get("interpolation", "bicubic")),
        licence=UNKNOWN,
        source=UNKNOWN,
        mlp_ratio=block.mlp.fc1.out_features / width,
        num_heads=int(block.attn.num_heads),
        num_prefix_tokens=int(model.num_prefix_tokens),
        has_layer_scale=not isinstance(block.ls1, nn.Identity),
        has_norm_before_blocks=not isinstance(parts.norm_pre, nn.Identity),
    )


def _num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
