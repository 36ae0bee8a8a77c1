"""ViT-Ti, S, B, L with 16-pixel patches, trained on ImageNet-21k with AugReg (arXiv 2106.10270), some tuned on 1k."""

from __future__ import annotations

from functools import partial

from benchmark.backbones.contract import BackboneInfo
from benchmark.backbones.parts.timm_family import build_timm

_HALF = (0.5, 0.5, 0.5)

_augreg = partial(
    BackboneInfo,
    patch_size_pixels=16,
    image_size_pixels=224,
    mean=_HALF,
    std=_HALF,
    interpolation="bicubic",
    crop_fraction=0.9,
    licence="Apache-2.0",
    source="google-research/vision_transformer (arXiv 2106.10270), on the hub under timm/; licence as timm states it",
)

_tiny = partial(_augreg, width=192, depth=12, num_heads=3, num_parameters=5_524_416)
_small = partial(_augreg, width=384, depth=12, num_heads=6, num_parameters=21_665_664)
_base = partial(_augreg, width=768, depth=12, num_heads=12, num_parameters=85_798_656)
_large = partial(_augreg, width=1024, depth=24, num_heads=16, num_parameters=303_301_632)

_INFOS = (
    _tiny(name="vit_tiny_patch16_224.augreg_in21k"),
    _tiny(name="vit_tiny_patch16_224.augreg_in21k_ft_in1k"),
    _small(name="vit_small_patch16_224.augreg_in21k"),
    _small(name="vit_small_patch16_224.augreg_in21k_ft_in1k"),
    _base(name="vit_base_patch16_224.augreg_in21k"),
    _base(name="vit_base_patch16_224.augreg_in21k_ft_in1k"),
    _base(
        name="vit_base_patch16_224.augreg2_in21k_ft_in1k",
        source="timm's own tuning of the augreg in21k weights, on the hub under timm/; licence as timm states it",
    ),
    _large(name="vit_large_patch16_224.augreg_in21k"),
    _large(name="vit_large_patch16_224.augreg_in21k_ft_in1k"),
)

BACKBONES = {info.name: info for info in _INFOS}

build = build_timm
