"""Guards that an adapter sits behind blocks of every shape timm builds: identical at the start, trained alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.models import vision_transformer
from timm.models.vision_transformer import VisionTransformer

from benchmark.methods.contract import find_method

SHAPES: dict[str, dict[str, Any]] = {
    "pre-norm": {},
    "LayerScale and registers (DINOv2)": {"init_values": 0.1, "reg_tokens": 4, "no_embed_class": True},
    "norm before the blocks (CLIP)": {"pre_norm": True},
    "average pool without CLS": {"class_token": False, "global_pool": "avg"},
    "attention pool without CLS": {"class_token": False, "global_pool": "map"},
    "residual post-norm": {"block_fn": vision_transformer.ResPostBlock},
    "parallel scaling": {"block_fn": vision_transformer.ParallelScalingBlock},
    "parallel things": {"block_fn": vision_transformer.ParallelThingsBlock},
}


def _model(shape: str) -> VisionTransformer:
    torch.manual_seed(0)
    model = VisionTransformer(
        img_size=32, patch_size=8, embed_dim=32, depth=3, num_heads=2, num_classes=0, **SHAPES[shape]
    )
    return model.eval().requires_grad_(False)


@pytest.fixture(params=SHAPES)
def shape(request: pytest.FixtureRequest) -> str:
    """Return the name of each shape in turn."""
    return str(request.param)


def _attach(model: VisionTransformer, **options: Any) -> VisionTransformer:
    find_method("adaptertune").attach(model, find_method("adaptertune").Options(rank=4, **options), seed=0)
    return model


def test_features_equal_the_frozen_models_when_an_adapter_is_put_behind_any_block(shape: str) -> None:
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(_attach(_model(shape))(pixels), _model(shape)(pixels))


def test_adapters_change_features_and_nothing_else_when_trained_behind_any_block(shape: str) -> None:
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    model = _attach(_model(shape), placement="every:2", init="xavier")
    model(pixels).square().sum().backward()
    with_gradient = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert {name.split(".")[1] for name in with_gradient} == {"0", "2"}
    assert [name for name in with_gradient if ".adapter" not in name] == []
    assert len(with_gradient) == 2 * 4  # two adapters of two projections with a weight and a bias each


def test_mask_reaches_the_attention_when_blocks_are_adapted() -> None:
    model = _attach(_model("pre-norm"))
    tokens = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    unmasked, causal = model.forward_features(tokens), model.forward_features(tokens, is_causal=True)
    assert not torch.equal(unmasked, causal)
    assert torch.equal(causal, _model("pre-norm").forward_features(tokens, is_causal=True))
