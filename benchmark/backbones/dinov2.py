"""ViT-S, B, L with 14-pixel patches, trained without labels (arXiv 2304.07193), also with registers (2309.16588)."""

from __future__ import annotations

from functools import partial

from benchmark.backbones.contract import BackboneInfo
from benchmark.backbones.parts.timm_family import build_timm

_dinov2 = partial(
    BackboneInfo,
    patch_size_pixels=14,
    image_size_pixels=518,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    interpolation="bicubic",
    has_layer_scale=True,
    licence="Apache-2.0",
    source="facebookresearch/dinov2 (arXiv 2304.07193), on the hub under timm/; licence as timm states it",
    note="trained without labels; its own size is 518 pixels, 1369 patches, and `image_size: 224` has 256",
)

_small = partial(_dinov2, width=384, depth=12, num_heads=6)
_base = partial(_dinov2, width=768, depth=12, num_heads=12)
_large = partial(_dinov2, width=1024, depth=24, num_heads=16)

_INFOS = (
    _small(name="vit_small_patch14_dinov2.lvd142m", num_parameters=22_056_192),
    _base(name="vit_base_patch14_dinov2.lvd142m", num_parameters=86_579_712),
    _large(name="vit_large_patch14_dinov2.lvd142m", num_parameters=304_367_616),
    _small(name="vit_small_patch14_reg4_dinov2.lvd142m", num_parameters=22_057_344, num_prefix_tokens=5),
    _base(name="vit_base_patch14_reg4_dinov2.lvd142m", num_parameters=86_582_016, num_prefix_tokens=5),
    _large(name="vit_large_patch14_reg4_dinov2.lvd142m", num_parameters=304_370_688, num_prefix_tokens=5),
)

BACKBONES = {info.name: info for info in _INFOS}

build = build_timm
