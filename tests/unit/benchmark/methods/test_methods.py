"""Guards what single methods compute, against the same formula written out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from benchmark.certificate import small_subject
from benchmark.methods.contract import find_method
from benchmark.training.model import AdaptedClassifier, adapt

PIXELS = torch.randn(2, 3, 18, 18, generator=torch.Generator().manual_seed(0))
TOKENS = torch.randn(2, 10, 32, generator=torch.Generator().manual_seed(1))


def _adapted(name: str, **options: Any) -> AdaptedClassifier:
    """Return the method on two blocks of width 32, with every new tensor drawn anew, so that none is zero."""
    method = find_method(name)
    model = adapt(small_subject(32).build(), method, method.Options(**options), 0, 10)
    draws = torch.Generator().manual_seed(2)
    for parameter in model.trainable().values():
        nn.init.normal_(parameter, std=0.2, generator=draws)
    return model


def _block(model: AdaptedClassifier) -> Any:
    return model.backbone.blocks[0]  # type: ignore[index, union-attr]


def _close(found: Tensor, expected: Tensor) -> None:
    """Compare at fp32 rounding of sums of 32 products near 1."""
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_lora_adds_to_query_and_value_rows_when_the_map_is_fused() -> None:
    adapted = _block(_adapted("lora", rank=4, alpha=8.0)).attn.qkv
    q, v = adapted.additions["q"], adapted.additions["v"]
    query, key, value = adapted.base(TOKENS).split(32, dim=-1)
    expected = torch.cat([query + 2 * TOKENS @ q.down.T @ q.up.T, key, value + 2 * TOKENS @ v.down.T @ v.up.T], dim=-1)
    _close(adapted(TOKENS), expected)


def test_lora_at_the_fused_map_is_one_low_rank_product_when_asked_for() -> None:
    adapted = _block(_adapted("lora", rank=4, sites="qkv")).attn.qkv
    addition = adapted.additions["qkv"]
    assert addition.up.shape == (96, 4)
    _close(adapted(TOKENS), adapted.base(TOKENS) + TOKENS @ (addition.up @ addition.down).T)


def test_hydra_adds_a_parallel_and_a_sequential_branch_when_called() -> None:
    adapted = _block(_adapted("hydra", rank=4, scale=0.5)).attn.proj
    y = adapted.base(TOKENS)
    p, s = adapted.parallel, adapted.sequential
    expected = y + 0.5 * p.up(p.down(TOKENS)) + 0.5 * s.up(s.down(y))
    _close(adapted(TOKENS), expected)


def test_houlsby_adapts_both_branches_before_their_residual_adds() -> None:
    adapted = _block(_adapted("houlsby", rank=4))
    block, attention, mlp = adapted.block, adapted.adapters["attention"], adapted.adapters["mlp"]
    a = block.attn(block.norm1(TOKENS))
    u = TOKENS + a + attention.up(functional.gelu(attention.down(a)))
    m = block.mlp(block.norm2(u))
    _close(adapted(TOKENS), u + m + mlp.up(functional.gelu(mlp.down(m))))


def test_adaptformer_adds_a_tenth_of_a_parallel_bottleneck_to_the_mlp() -> None:
    adapted = _block(_adapted("adaptformer", rank=4))
    block, adapter = adapted.block, adapted.adapters["mlp"]
    u = TOKENS + block.attn(block.norm1(TOKENS))
    _close(adapted(TOKENS), u + block.mlp(block.norm2(u)) + 0.1 * adapter.up(functional.relu(adapter.down(u))))


def test_adapter_plus_scales_each_channel_of_its_correction() -> None:
    adapted = _block(_adapted("adapter_plus", rank=4))
    y, adapter = adapted.block(TOKENS), adapted.adapter
    _close(adapted(TOKENS), y + adapter.scale * adapter.up(functional.gelu(adapter.down(y))))


def test_convpass_convolves_the_class_token_as_an_image_of_its_own() -> None:
    bypass = _block(_adapted("convpass", rank=4)).adapters["attention"]
    hidden = bypass.activation(bypass.down(TOKENS))
    grid = bypass.convolution(hidden[:, 1:].reshape(2, 3, 3, 4).permute(0, 3, 1, 2))
    alone = bypass.convolution(hidden[:, :1].reshape(2, 1, 1, 4).permute(0, 3, 1, 2))
    convolved = torch.cat([alone.flatten(2).transpose(1, 2), grid.flatten(2).transpose(1, 2)], dim=1)
    _close(bypass(TOKENS), bypass.up(bypass.activation(convolved)))


def test_ssf_scales_and_shifts_every_operation_when_attached() -> None:
    model = _adapted("ssf")
    names = [name for name in model.trainable() if name.endswith("scale")]
    assert len(names) == 2 * 6 + 2  # LN1, qkv, proj, LN2, fc1, fc2 in two blocks; patch embedding, last LayerNorm
    qkv = _block(model).attn.qkv
    _close(qkv(TOKENS), qkv.base(TOKENS) * qkv.scale + qkv.shift)


def test_prompts_stand_behind_the_prefix_when_inserted() -> None:
    prompts = _block(_adapted("vpt_deep", num_prompts=3)).prompts
    found = prompts(TOKENS)
    assert torch.equal(found[:, :1], TOKENS[:, :1])
    assert torch.equal(found[:, 1:4], prompts.tokens.expand(2, -1, -1))
    assert torch.equal(prompts.removed_from(found), TOKENS)


def test_prompts_start_within_the_papers_bound_when_drawn() -> None:
    method = find_method("vpt_deep")
    model = adapt(small_subject(32).build(), method, method.Options(num_prompts=50), 0, 10)
    bound = (6 / (3 * 6 * 6 + 32)) ** 0.5  # arXiv 2203.12119: patches of 6 x 6 pixels, width 32
    largest = _block(model).prompts.tokens.abs().max().item()
    assert 0.95 * bound < largest <= bound


def test_apla_trains_a_quarter_of_the_outputs_when_asked_for() -> None:
    method = find_method("apla")
    first, second = (
        adapt(small_subject(32).build(), method, method.Options(fraction=0.25), seed, 10) for seed in (0, 1)
    )
    chosen = _block(first).attn.proj
    assert chosen.weight.shape == (8, 32)
    assert not torch.equal(chosen.outputs, _block(second).attn.proj.outputs)


@pytest.mark.parametrize(
    ("init", "starts_at_identity"),
    [("zero", True), ("lora", True), ("small", False), ("houlsby", False), ("bert", False), ("xavier", False)],
)
def test_initialisation_is_flagged_as_it_is_when_attached(init: str, starts_at_identity: bool) -> None:
    method, subject = find_method("adaptertune"), small_subject(32)
    options = method.Options(rank=4, init=init)
    model = adapt(subject.build(), method, options, 0, 10)
    assert method.is_identity_at_start(options) == starts_at_identity
    assert torch.equal(model.backbone(PIXELS), subject.build()(PIXELS)) == starts_at_identity


@pytest.mark.parametrize(
    ("join", "expected"),
    [
        ({"residual_add": "before"}, lambda x, a, adapt: x + a + adapt(a)),
        ({"residual_add": "after"}, lambda x, a, adapt: x + a + adapt(x + a)),
        ({"form": "parallel"}, lambda x, a, adapt: x + a + adapt(x)),
    ],
    ids=["before", "after", "parallel"],
)
def test_adapter_meets_the_attention_branch_where_the_options_say(join: dict[str, str], expected: Any) -> None:
    adapted = _block(_adapted("adaptertune", rank=4, site="attention", **join))
    block = adapted.block
    u = expected(TOKENS, block.attn(block.norm1(TOKENS)), adapted.adapters["attention"])
    _close(adapted(TOKENS), u + block.mlp(block.norm2(u)))
