"""Guards the bridge to PEFT: PEFT's own names and defaults, counts, starts, and parity with LoRA made by hand."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from benchmark.backbones.contract import BackboneInfo, build_backbone, find_backbone, tensors_sha256
from benchmark.errors import RequestError
from benchmark.methods.contract import find_method
from benchmark.methods.parts.peft_types import PEFT_TYPES, near_factors
from benchmark.request import resolve_trial

peft = pytest.importorskip("peft", reason="the extra `peft` is not installed")

METHOD = find_method("peft")

VARIANTS: list[dict[str, Any]] = [
    {"r": 4},
    {"r": 6, "target_modules": "qkv, fc2", "use_rslora": True, "init_lora_weights": "gaussian"},
    {"r": 4, "use_dora": True},
    {"r": 4, "init_lora_weights": "pissa"},
    {"r": 4, "init_lora_weights": "olora"},
    {"r": 4, "init_lora_weights": "eva"},
    {"peft_type": "MISS", "r": 8},
    {"peft_type": "MISS", "r": 4, "init_weights": "bat"},
    {"peft_type": "OFT", "oft_block_size": 8},
    {"peft_type": "LOHA", "r": 4},
    {"peft_type": "LOKR"},
    {"peft_type": "LOKR", "r": 2, "decompose_both": True, "decompose_factor": 8},
    {"peft_type": "VERA", "r": 16},
    {"peft_type": "RANDLORA", "r": 12},
    {"peft_type": "FOURIERFT", "n_frequency": 20, "init_weights": True},
    {"peft_type": "FOURIERFT", "n_frequency": 20},
    {"peft_type": "HRA", "r": 4},
    {"peft_type": "LN_TUNING"},
]
IDS = ["-".join(map(str, variant.values())) for variant in VARIANTS]


@pytest.fixture(params=VARIANTS, ids=IDS)
def options(request: pytest.FixtureRequest) -> Any:
    """Return the options of each variant."""
    return METHOD.Options(**request.param)


def _pixels() -> torch.Tensor:
    return torch.randn(16, 3, 18, 18, generator=torch.Generator().manual_seed(0))


def _attached(options: Any, seed: int = 0) -> VisionTransformer:
    backbone = build_backbone("vit_nano", "bundled", 18)
    backbone.requires_grad_(False)
    METHOD.attach(backbone, options, seed)
    return backbone


def _trained(backbone: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in backbone.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("name", PEFT_TYPES)
def test_names_and_defaults_are_pefts_when_a_type_is_offered(name: str) -> None:
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    fields = {field.name: field.default for field in dataclasses.fields(PEFT_TYPE_TO_CONFIG_MAPPING[name])}
    assert {key: fields[key] for key in PEFT_TYPES[name].defaults} == dict(PEFT_TYPES[name].defaults)


def test_count_equals_the_formula_when_counted_on_the_bundled_backbone(options: Any) -> None:
    counted = sum(parameter.numel() for parameter in _trained(_attached(options)).values())
    assert counted == METHOD.count_parameters(options, find_backbone("vit_nano"))


def test_count_equals_the_formula_when_counted_at_another_width(options: Any) -> None:
    backbone = VisionTransformer(img_size=32, patch_size=16, embed_dim=96, depth=2, num_heads=4, num_classes=0)
    backbone.requires_grad_(False)
    METHOD.attach(backbone, options, 0)
    info = BackboneInfo("x", 96, 2, 16, 32, 0, (0, 0, 0), (1, 1, 1), "bicubic", "", "")
    assert METHOD.check(options, info) == []
    assert sum(p.numel() for p in _trained(backbone).values()) == METHOD.count_parameters(options, info)


def test_start_is_the_pretrained_function_when_the_type_claims_so(options: Any) -> None:
    with torch.no_grad():
        features, frozen = _attached(options)(_pixels()), build_backbone("vit_nano", "bundled", 18)(_pixels())
    assert torch.equal(features, frozen) == METHOD.is_identity_at_start(options)


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_start_is_within_rounding_when_the_frozen_weights_are_rewritten(init: str) -> None:
    options = METHOD.Options(r=4, init_lora_weights=init)
    plain, backbone = build_backbone("vit_nano", "bundled", 18), _attached(options)
    with torch.no_grad():
        torch.testing.assert_close(backbone(_pixels()), plain(_pixels()), atol=1e-5, rtol=1e-5)
    assert METHOD.rewrites_frozen_weights(options)  # type: ignore[attr-defined]
    assert tensors_sha256({"w": backbone.blocks[0].mlp.fc1.base_layer.weight}) != tensors_sha256(
        {"w": plain.blocks[0].mlp.fc1.weight}
    )


def test_every_trained_tensor_moves_when_five_steps_are_done(options: Any) -> None:
    backbone = _attached(options)
    before = {name: parameter.detach().clone() for name, parameter in _trained(backbone).items()}
    optimizer = torch.optim.AdamW(_trained(backbone).values(), lr=1e-3)
    for _ in range(5):
        optimizer.zero_grad()
        backbone(_pixels()).square().sum().backward()
        optimizer.step()
    assert [name for name, value in _trained(backbone).items() if torch.equal(value, before[name])] == []


def test_merged_backbone_is_plain_and_does_the_same_when_trained(options: Any) -> None:
    backbone = _attached(options)
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in _trained(backbone).values():
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=draws))
        expected = backbone(_pixels())
        METHOD.merge(backbone, options)  # type: ignore[attr-defined]
        assert backbone.state_dict().keys() == build_backbone("vit_nano", "bundled", 18).state_dict().keys()
        # fp32, six blocks: another order of the same sums, features of size about 1
        torch.testing.assert_close(backbone(_pixels()), expected, atol=1e-3, rtol=1e-3)


def test_start_comes_from_the_streams_when_the_global_state_differs(options: Any) -> None:
    torch.manual_seed(1)
    first = _trained(_attached(options, seed=3))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = _trained(_attached(options, seed=3))
    assert torch.equal(torch.get_rng_state(), state)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


class _HandMadeLora(nn.Module):
    """`W x + b + (alpha / r) B A x`, written out."""

    def __init__(self, base: nn.Linear, down: torch.Tensor, up: torch.Tensor, scale: float) -> None:
        super().__init__()
        self.base, self.scale = base, scale
        self.down, self.up = nn.Parameter(down.clone()), nn.Parameter(up.clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + self.scale * (x @ self.down.T @ self.up.T)


@pytest.mark.parametrize("module", ["qkv", "proj", "fc1", "fc2"])
def test_peft_lora_equals_lora_made_by_hand_when_it_sits_at_the_same_maps(module: str) -> None:
    injected = _attached(METHOD.Options(r=4, lora_alpha=12, target_modules=module))
    by_hand = build_backbone("vit_nano", "bundled", 18).requires_grad_(False)
    owner = "attn" if module in ("qkv", "proj") else "mlp"
    draws = torch.Generator().manual_seed(2)
    for ours, theirs in zip(by_hand.blocks, injected.blocks, strict=True):
        layer = getattr(getattr(theirs, owner), module)
        nn.init.normal_(layer.lora_B["default"].weight, std=0.05, generator=draws)
        weights = layer.lora_A["default"].weight.detach(), layer.lora_B["default"].weight.detach()
        setattr(getattr(ours, owner), module, _HandMadeLora(getattr(getattr(ours, owner), module), *weights, 12 / 4))
    outputs = [model(_pixels()) for model in (injected, by_hand)]
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-5)  # fp32: the scale is applied at another place
    for output in outputs:
        output.square().mean().backward()
    for ours, theirs in zip(by_hand.blocks, injected.blocks, strict=True):
        hand, layer = getattr(getattr(ours, owner), module), getattr(getattr(theirs, owner), module)
        torch.testing.assert_close(hand.down.grad, layer.lora_A["default"].weight.grad, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(hand.up.grad, layer.lora_B["default"].weight.grad, atol=1e-5, rtol=1e-4)


def test_eva_spans_the_leading_singular_vectors_when_it_starts_from_images() -> None:
    options = METHOD.Options(r=4, init_lora_weights="eva", target_modules="fc1")
    backbone, batches = _attached(options), [_pixels()]
    inputs: list[torch.Tensor] = []
    hook = backbone.blocks[2].mlp.fc1.register_forward_hook(lambda _, x, y: inputs.append(x[0].flatten(0, 1)))
    with torch.no_grad():
        backbone(_pixels())
    hook.remove()
    assert METHOD.uses_images_at_start(options)
    METHOD.start_from_images(backbone, options, batches)
    vectors = backbone.blocks[2].mlp.fc1.lora_A["default"].weight
    # PEFT's incremental SVD subtracts the mean; one batch seen again and again keeps its own right vectors.
    expected = torch.linalg.svd(inputs[0] - inputs[0].mean(dim=0), full_matrices=False)[2][:4]
    cosines = (vectors @ expected.T).abs().diagonal()
    torch.testing.assert_close(cosines, torch.ones(4), atol=1e-3, rtol=0)
    again = _attached(options, seed=5)
    METHOD.start_from_images(again, options, batches)
    assert torch.equal(vectors, again.blocks[2].mlp.fc1.lora_A["default"].weight)
    with torch.no_grad():
        assert torch.equal(backbone(_pixels()), build_backbone("vit_nano", "bundled", 18)(_pixels()))


@pytest.mark.parametrize(("number", "factor"), [(192, -1), (64, -1), (127, -1), (128, 4), (96, 7), (192, 24), (2, -1)])
def test_near_factors_are_pefts_when_a_dimension_is_split(number: int, factor: int) -> None:
    from peft.tuners.lokr.layer import factorization

    assert near_factors(number, factor) == factorization(number, factor)
    assert math.prod(near_factors(number, factor)) == number


def test_record_has_the_types_own_options_with_defaults_when_resolved(tiny_request: dict[str, Any]) -> None:
    spec = resolve_trial({**tiny_request, "method": {"name": "peft", "peft_type": "HRA"}})
    expected = {"peft_type": "HRA", "target_modules": "qkv,proj,fc1,fc2", "r": 8, "apply_GS": False}
    assert spec.method.options == expected


@pytest.mark.parametrize(
    ("values", "fragment"),
    [
        ({"peft_type": "LORAA"}, "LORA"),
        ({"peft_type": "HRA", "lora_alpha": 4}, "no option lora_alpha"),
        ({"peft_type": "OFT", "oft_block_size": 24}, "must divide"),
        ({"target_modules": "qkv,key"}, "'key' is none of"),
        ({"lora_dropout": 0.1}, "no such key"),
        ({"r": 65}, "at most the backbone's width 64"),
        ({"peft_type": "HRA", "r": 3}, "even rank"),
        ({"peft_type": "MISS", "r": 24, "init_weights": "bat"}, "must divide"),
        ({"peft_type": "MISS", "init_weights": False}, "allows"),
    ],
)
def test_request_is_refused_when_peft_could_not_keep_it(
    tiny_request: dict[str, Any], values: dict[str, Any], fragment: str
) -> None:
    with pytest.raises(RequestError, match=fragment):
        resolve_trial({**tiny_request, "method": {"name": "peft", **values}})
