"""Guards that `lora` is PEFT's own LoRA: same weights in, same outputs and gradients out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from benchmark.backbones.contract import build_backbone
from benchmark.methods.contract import find_method

peft = pytest.importorskip("peft", reason="the extra `peft` is not installed")

RANK, ALPHA = 4, 12.0
OWNERS = {"qkv": "attn", "proj": "attn", "fc1": "mlp", "fc2": "mlp"}


def _backbone() -> VisionTransformer:
    return build_backbone("vit_nano", "bundled", 18).requires_grad_(False)


def _maps(backbone: Any) -> list[Any]:
    return [getattr(getattr(block, owner), site) for block in backbone.blocks for site, owner in OWNERS.items()]


def _ours() -> VisionTransformer:
    method, backbone = find_method("lora"), _backbone()
    method.attach(backbone, method.Options(rank=RANK, alpha=ALPHA, sites=",".join(OWNERS)), 0)
    return backbone


def _theirs() -> nn.Module:
    config = peft.LoraConfig(r=RANK, lora_alpha=int(ALPHA), lora_dropout=0.0, target_modules=list(OWNERS))
    # "proj" is also the patch embedding's name, so PEFT sees the blocks alone
    backbone = _backbone()
    peft.inject_adapter_in_model(config, backbone.blocks)
    return backbone


def _factors(ours: Any, theirs: Any) -> list[tuple[nn.Parameter, nn.Parameter]]:
    (addition,) = ours.additions.values()
    return [
        (addition.down, theirs.lora_A["default"].weight),
        (addition.up, theirs.lora_B["default"].weight),
    ]


def test_outputs_and_gradients_are_pefts_when_the_weights_are_the_same() -> None:
    ours, theirs = _ours(), _theirs()
    pairs = [pair for mapped in zip(_maps(ours), _maps(theirs), strict=True) for pair in _factors(*mapped)]
    assert len(pairs) == 2 * 4 * 6  # A and B, four maps, six blocks
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for mine, other in pairs:
            nn.init.normal_(mine, std=0.05, generator=draws)
            other.copy_(mine)
    pixels = torch.randn(8, 3, 18, 18, generator=draws)
    outputs = [model(pixels) for model in (ours, theirs)]
    plain = _backbone()(pixels)
    assert not torch.allclose(outputs[0], plain, atol=1e-2)  # the additions do something
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-5)  # fp32: the scale is applied at another place
    for output in outputs:
        output.square().mean().backward()
    for mine, other in pairs:
        torch.testing.assert_close(mine.grad, other.grad, atol=1e-5, rtol=1e-4)
