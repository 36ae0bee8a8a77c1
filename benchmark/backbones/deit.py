"""DeiT-Ti, S, B: Vision Transformers trained on ImageNet-1k alone, without distillation (arXiv 2012.12877)."""

from __future__ import annotations

from functools import partial

from benchmark.backbones.contract import BackboneInfo
from benchmark.backbones.parts.timm_family import build_timm

_deit = partial(
    BackboneInfo,
    depth=12,
    patch_size_pixels=16,
    image_size_pixels=224,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    interpolation="bicubic",
    crop_fraction=0.9,
    licence="Apache-2.0",
    source="facebookresearch/deit (arXiv 2012.12877), on the hub under timm/; licence as timm states it",
)

_INFOS = (
    _deit(name="deit_tiny_patch16_224.fb_in1k", width=192, num_heads=3, num_parameters=5_524_416),
    _deit(name="deit_small_patch16_224.fb_in1k", width=384, num_heads=6, num_parameters=21_665_664),
    _deit(name="deit_base_patch16_224.fb_in1k", width=768, num_heads=12, num_parameters=85_798_656),
)

BACKBONES = {info.name: info for info in _INFOS}

build = build_timm
