"""ViT-B, L, H trained on ImageNet-1k without labels, as masked autoencoders (arXiv 2111.06377). Non-commercial."""

from __future__ import annotations

from functools import partial

from benchmark.backbones.contract import BackboneInfo
from benchmark.backbones.parts.timm_family import build_timm

_mae = partial(
    BackboneInfo,
    image_size_pixels=224,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    interpolation="bicubic",
    crop_fraction=0.9,
    licence="CC-BY-NC-4.0",
    source="facebookresearch/mae (arXiv 2111.06377), on the hub under timm/; licence as both state it",
    note="non-commercial use only; trained without labels",
)

_INFOS = (
    _mae(
        name="vit_base_patch16_224.mae",
        width=768,
        depth=12,
        num_heads=12,
        patch_size_pixels=16,
        num_parameters=85_798_656,
    ),
    _mae(
        name="vit_large_patch16_224.mae",
        width=1024,
        depth=24,
        num_heads=16,
        patch_size_pixels=16,
        num_parameters=303_301_632,
    ),
    _mae(
        name="vit_huge_patch14_224.mae",
        width=1280,
        depth=32,
        num_heads=16,
        patch_size_pixels=14,
        num_parameters=630_764_800,
    ),
)

BACKBONES = {info.name: info for info in _INFOS}

build = build_timm
