"""Guards that every method works on every kind of backbone, or refuses it by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as functional
from timm.models.vision_transformer import ParallelScalingBlock, ResPostBlock

from benchmark.certificate import NUM_CLASSES, small_subject
from benchmark.errors import RequestError
from benchmark.methods.contract import find_method, method_names
from benchmark.training.model import AdaptedClassifier, adapt

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "layer_scale_and_registers": {"init_values": 1e-1, "reg_tokens": 4, "no_embed_class": True},
    "pre_norm": {"pre_norm": True, "norm_layer": torch.nn.LayerNorm},
    "average_pooling": {"class_token": False, "global_pool": "avg"},
    "residual_post_norm": {"block_fn": ResPostBlock, "init_values": 1e-1},
}


def _adapted(name: str, kind: dict[str, Any]) -> tuple[AdaptedClassifier, Any, Any]:
    method, subject = find_method(name), small_subject(32, **kind)
    options = method.Options(**method.certified[0])
    return adapt(subject.build(), method, options, 0, NUM_CLASSES), options, subject


def _adapted_or_skipped(name: str, kind: dict[str, Any]) -> tuple[AdaptedClassifier, Any, Any]:
    """Skip where the method says by name that it is not defined for such a backbone."""
    try:
        return _adapted(name, kind)
    except RequestError as refusal:
        assert refusal.problems[0].found == name
        pytest.skip(str(refusal))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", method_names())
def test_method_keeps_its_contract_when_the_backbone_is_of_this_kind(name: str, kind: str) -> None:
    model, options, subject = _adapted_or_skipped(name, KINDS[kind])
    method, plain = find_method(name), subject.build()
    pixels = torch.randn(4, 3, 18, 18, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features, reference = model.backbone(pixels), plain(pixels)
    assert features.shape == reference.shape
    assert torch.equal(features, reference) == method.is_identity_at_start(options)
    num_adapter_parameters = sum(p.numel() for p in model.trainable().values()) - sum(
        p.numel() for p in model.head.parameters()
    )
    assert num_adapter_parameters == method.count_parameters(options, subject.info)
    functional.cross_entropy(model(pixels), torch.arange(4)).backward()
    assert [name for name, parameter in model.trainable().items() if parameter.grad is None] == []


def test_convpass_refuses_by_name_when_no_layer_norm_stands_before_the_branch() -> None:
    with pytest.raises(RequestError, match=r"convpass.*defined for timm's Block"):
        _adapted("convpass", KINDS["residual_post_norm"])


@pytest.mark.parametrize("name", ["houlsby", "adaptformer", "lora", "hydra", "ssf", "convpass", "apla"])
def test_method_refuses_by_name_when_the_block_has_no_separate_branches(name: str) -> None:
    with pytest.raises(RequestError, match=f"{name}.*ParallelScalingBlock"):
        _adapted(name, {"block_fn": ParallelScalingBlock})


def test_prompts_are_not_averaged_when_the_image_tokens_are() -> None:
    model, _, subject = _adapted("vpt_shallow", KINDS["average_pooling"])
    pixels = torch.zeros(1, 3, 18, 18)
    tokens = model.backbone.forward_features(pixels)  # type: ignore[operator]
    assert tokens.shape == subject.build().forward_features(pixels).shape


@pytest.mark.parametrize(("name", "kind"), [("lora", kind) for kind in KINDS] + [("hydra", kind) for kind in KINDS])
def test_merged_weights_fit_a_plain_backbone_when_it_is_of_this_kind(name: str, kind: str) -> None:
    model, options, subject = _adapted(name, KINDS[kind])
    for parameter in model.trainable().values():
        torch.nn.init.normal_(parameter, std=0.05, generator=torch.Generator().manual_seed(0))
    pixels, backbone, plain = torch.ones(2, 3, 18, 18), model.backbone, subject.build()
    with torch.no_grad():
        reference = backbone(pixels)
        find_method(name).merge(backbone, options)  # type: ignore[arg-type]
        plain.load_state_dict(backbone.state_dict(), strict=True)
        # fp32 rounding through two blocks, of features near 1.
        torch.testing.assert_close(plain(pixels), reference, atol=1e-5, rtol=1e-5)


def test_merging_is_refused_when_the_patch_embedding_has_no_bias() -> None:
    model, options, _ = _adapted("ssf", KINDS["pre_norm"])
    with pytest.raises(RequestError, match="no bias that could take SSF's shift"):
        find_method("ssf").merge(model.backbone, options)  # type: ignore[arg-type]
