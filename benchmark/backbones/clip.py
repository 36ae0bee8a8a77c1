"""The image halves of CLIP: OpenAI's ViT-B/16 and L/14 (arXiv 2103.00020), LAION-2B's B/16, L/14, H/14 (2212.07143).

OpenAI's weights were trained with QuickGELU. timm lists them also under its GELU models, where they compute something
else than what was trained; only the QuickGELU names are pinned here.
"""

from __future__ import annotations

from functools import partial

from benchmark.backbones.contract import BackboneInfo
from benchmark.backbones.parts.timm_family import build_timm

_clip = partial(
    BackboneInfo,
    image_size_pixels=224,
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
    interpolation="bicubic",
    has_norm_before_blocks=True,
    licence="Apache-2.0",
    source="LAION and OpenCLIP (arXiv 2212.07143), on the hub under timm/; licence as timm states it",
)

_base = partial(_clip, width=768, depth=12, num_heads=12, patch_size_pixels=16, num_parameters=85_799_424)
_large = partial(_clip, width=1024, depth=24, num_heads=16, patch_size_pixels=14, num_parameters=303_179_776)
_huge = partial(_clip, width=1280, depth=32, num_heads=16, patch_size_pixels=14, num_parameters=630_766_080)

_openai = {
    "source": "openai/CLIP (arXiv 2103.00020), on the hub under timm/; licence as timm states it",
    "note": "the licence file of openai/CLIP, which covers its code, is MIT",
}

_INFOS = (
    _base(name="vit_base_patch16_clip_quickgelu_224.openai", crop_fraction=0.9, **_openai),
    _large(name="vit_large_patch14_clip_quickgelu_224.openai", **_openai),
    _base(name="vit_base_patch16_clip_224.laion2b"),
    _large(
        name="vit_large_patch14_clip_224.laion2b",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        note="unlike its siblings it was trained with mean = std = 0.5",
    ),
    _huge(name="vit_huge_patch14_clip_224.laion2b"),
)

BACKBONES = {info.name: info for info in _INFOS}

build = build_timm
