"""ViT-H/14 of the original paper, trained on ImageNet-21k (arXiv 2010.11929)."""

from __future__ import annotations

from benchmark.backbones.contract import BackboneInfo
from benchmark.backbones.parts.timm_family import build_timm

_HUGE = BackboneInfo(
    name="vit_huge_patch14_224.orig_in21k",
    width=1280,
    depth=32,
    num_heads=16,
    patch_size_pixels=14,
    image_size_pixels=224,
    num_parameters=630_764_800,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    interpolation="bicubic",
    crop_fraction=0.9,
    licence="Apache-2.0",
    source="google-research/vision_transformer (arXiv 2010.11929), on the hub under timm/; licence as timm states it",
)

BACKBONES = {_HUGE.name: _HUGE}

build = build_timm
