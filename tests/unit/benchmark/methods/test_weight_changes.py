"""Guards the methods that change frozen weights: counts at other widths, and merging into one weight."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from benchmark.backbones.contract import BackboneInfo, build_backbone
from benchmark.methods.contract import find_method

METHODS = [
    ("fact_tt", {"rank": 4, "scale": 2.0}),
    ("fact_tk", {"rank": 4, "scale": 2.0}),
    ("flora", {"rank": 4, "scale": 2.0}),
    ("flora", {"rank": 4, "sites": "qv"}),
    ("ether", {"num_blocks": 2}),
    ("ether_plus", {"num_blocks": 2, "sites": "mlp"}),
    ("ether_plus", {"num_blocks": 4}),
]


def _backbone(width: int, depth: int) -> VisionTransformer:
    model = VisionTransformer(
        img_size=32, patch_size=16, embed_dim=width, depth=depth, num_heads=4, mlp_ratio=4.0, num_classes=0
    )
    model.requires_grad_(False)
    return model


def _info(width: int, depth: int) -> BackboneInfo:
    return BackboneInfo("x", width, depth, 16, 32, 0, (0, 0, 0), (1, 1, 1), "bicubic", "", "")


@pytest.mark.parametrize(("width", "depth"), [(32, 2), (48, 3)])
@pytest.mark.parametrize("rank", [2, 6])
@pytest.mark.parametrize("name", ["fact_tt", "fact_tk", "flora"])
def test_count_equals_the_formula_when_width_and_rank_change(name: str, rank: int, width: int, depth: int) -> None:
    method = find_method(name)
    options, backbone = method.Options(rank=rank), _backbone(width, depth)
    method.attach(backbone, options, 0)
    counted = sum(parameter.numel() for parameter in backbone.parameters() if parameter.requires_grad)
    assert counted == method.count_parameters(options, _info(width, depth))


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("fact_tt", {"rank": 8}, 12 * 12 * 8**2 + 2 * 768 * 8),
        ("fact_tk", {"rank": 8}, 12 * 12 * 8 + 2 * 768 * 8 + 8**3),
        ("flora", {"rank": 8, "sites": "attention"}, 12 * 4 * (2 * 768 * 8 + 8**2)),
        ("ether", {}, 12 * (5 * 768 + 4 * 768)),
        ("ether_plus", {}, 12 * (4 * 2 * 2 * 768 + 2 * 2 * 5 * 768)),
    ],
)
def test_count_is_the_papers_formula_when_the_backbone_is_vit_b(
    name: str, options: dict[str, Any], expected: int
) -> None:
    # The table of methods: 12r^2 (+2dr once); 12r (+2dr + r^3 once); (in + out)r + r^2; in; 2(in + out) a matrix.
    method = find_method(name)
    assert method.count_parameters(method.Options(**options), _info(768, 12)) == expected


@pytest.mark.parametrize(("name", "values"), METHODS)
def test_merged_backbone_is_plain_and_does_the_same_when_changes_were_trained(
    name: str, values: dict[str, Any]
) -> None:
    method = find_method(name)
    options, pixels = method.Options(**values), torch.randn(4, 3, 18, 18, generator=torch.Generator().manual_seed(0))
    adapted, plain = (build_backbone("vit_nano", "bundled", 18).requires_grad_(False) for _ in range(2))
    method.attach(adapted, options, 0)
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=draws))
        expected, frozen = adapted(pixels), plain(pixels)
        method.merge(adapted, options)
        assert adapted.state_dict().keys() == plain.state_dict().keys()
        assert (expected - frozen).abs().max() > 1e-2
        # fp32, six blocks, features of size about 1: another order of the same sums
        torch.testing.assert_close(adapted(pixels), expected, atol=2e-4, rtol=1e-4)
