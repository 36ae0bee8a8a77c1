"""Guards that every pinned backbone states what the installed timm says of it; nothing is downloaded or filled."""

from __future__ import annotations

import functools

import pytest
import timm
import torch
from timm.layers import LayerScale
from timm.models import get_pretrained_cfg

from benchmark.backbones.contract import PAPER_BACKBONES, backbone_names, find_backbone
from benchmark.errors import RequestError

PINNED = [name for name in backbone_names() if "." in name]

COUNTS = {
    # METHODS.md, "Facts to check counts against"
    "deit_tiny_patch16_224.fb_in1k": 5_524_416,
    "vit_small_patch16_224.augreg_in21k_ft_in1k": 21_665_664,
    "vit_base_patch16_224.augreg_in21k": 85_798_656,
    "vit_large_patch16_224.augreg_in21k_ft_in1k": 303_301_632,
    "vit_huge_patch14_224.orig_in21k": 630_764_800,
    "vit_huge_patch14_clip_224.laion2b": 630_766_080,
}


@functools.cache
def _meta_model(name: str, image_size_pixels: int) -> timm.models.VisionTransformer:
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=0, img_size=image_size_pixels)
    assert isinstance(model, timm.models.VisionTransformer)
    return model


@pytest.mark.parametrize("name", PINNED)
def test_shape_is_what_timm_builds_when_a_tag_is_pinned(name: str) -> None:
    info, model = find_backbone(name), _meta_model(name, find_backbone(name).image_size_pixels)
    block = model.blocks[0]
    built = {
        "width": model.embed_dim,
        "depth": len(model.blocks),
        "num_heads": block.attn.num_heads,
        "mlp_ratio": block.mlp.fc1.out_features / model.embed_dim,
        "patch_size_pixels": model.patch_embed.patch_size[0],
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "num_prefix_tokens": model.num_prefix_tokens,
        "has_layer_scale": isinstance(block.ls1, LayerScale),
        "has_norm_before_blocks": not isinstance(model.norm_pre, torch.nn.Identity),
    }
    assert {field: getattr(info, field) for field in built} == built


@pytest.mark.parametrize("name", PINNED)
def test_presentation_and_licence_are_timms_when_a_tag_is_pinned(name: str) -> None:
    info, config = find_backbone(name), get_pretrained_cfg(name)
    assert config is not None
    assert config.hf_hub_id is not None
    assert (info.mean, info.std) == (config.mean, config.std)
    assert info.interpolation == config.interpolation
    assert info.crop_fraction == config.crop_pct
    assert info.image_size_pixels == config.input_size[-1]
    assert info.licence.lower() == config.license


@pytest.mark.parametrize("name", PINNED)
def test_activation_is_the_one_it_was_trained_with_when_a_tag_is_pinned(name: str) -> None:
    activation = _meta_model(name, find_backbone(name).image_size_pixels).blocks[0].mlp.act
    is_openai = name.endswith(".openai")  # the only QuickGELU weights here
    assert (type(activation).__name__ == "QuickGELU") == is_openai


@pytest.mark.parametrize(("name", "expected"), COUNTS.items())
def test_count_is_the_published_one_when_stated(name: str, expected: int) -> None:
    assert find_backbone(name).num_parameters == expected


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224.augreg_in21k", "vit_small_patch14_reg4_dinov2.lvd142m"])
def test_count_follows_the_position_embeddings_when_the_image_size_differs(name: str) -> None:
    info = find_backbone(name)
    size = 4 * info.patch_size_pixels
    model = _meta_model(name, size)
    assert info.resized(size).num_parameters == sum(parameter.numel() for parameter in model.parameters())


def test_only_mae_is_non_commercial_when_licences_are_read() -> None:
    non_commercial = {name for name in backbone_names() if find_backbone(name).is_non_commercial}
    assert non_commercial == {name for name in backbone_names() if name.endswith(".mae")}
    assert find_backbone("vit_base_patch16_224.mae").licence_line == "CC-BY-NC-4.0 (non-commercial)"


def test_bare_name_is_refused_with_its_tags_when_asked_for() -> None:
    with pytest.raises(RequestError) as refused:
        find_backbone("vit_base_patch16_224")
    message = str(refused.value)
    tags = [name for name in PINNED if name.startswith("vit_base_patch16_224.")]
    assert len(tags) == 4
    assert [tag for tag in tags if tag not in message] == []


def test_openai_name_without_quickgelu_is_refused_with_the_right_one_when_asked_for() -> None:
    with pytest.raises(RequestError, match=r"vit_base_patch16_clip_quickgelu_224\.openai"):
        find_backbone("vit_base_patch16_clip_224.openai")


@pytest.mark.parametrize(("bare", "pinned"), PAPER_BACKBONES.items())
def test_papers_name_has_timms_default_tag_when_pinned(bare: str, pinned: str) -> None:
    assert pinned in backbone_names()
    with torch.device("meta"):
        assert timm.create_model(bare).pretrained_cfg["tag"] == pinned.partition(".")[2]
