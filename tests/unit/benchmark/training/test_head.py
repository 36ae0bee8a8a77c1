"""The head starts by the law that the trial names, the same for every method of a seed."""

from __future__ import annotations

import math

import pytest
import torch

from benchmark.certificate import small_subject
from benchmark.methods.contract import find_method
from benchmark.request import resolve_trial
from benchmark.spec import HeadInit
from benchmark.training.model import AdaptedClassifier, adapt

WIDTH = 64


def adapted(law: HeadInit, seed: int = 0, name: str = "head_only", **options: object) -> AdaptedClassifier:
    method = find_method(name)
    return adapt(small_subject(WIDTH).build(), method, method.Options(**options), seed, 100, law)


def test_loss_at_the_start_is_chance_when_the_head_is_as_timms() -> None:
    spec = resolve_trial({"backbone": "vit_nano", "dataset": "digits", "method": "head_only", "seed": 0})
    assert spec.training.head_init == "trunc_normal"
    features = 15 * torch.randn(256, WIDTH, generator=torch.Generator().manual_seed(0))
    losses = {}
    for law in ("trunc_normal", "uniform"):
        logits = adapted(law).head(features)
        losses[law] = torch.nn.functional.cross_entropy(logits, torch.arange(256) % 100).item()
    assert losses["trunc_normal"] - math.log(100) < 3.5 < losses["uniform"] - math.log(100)


@pytest.mark.parametrize(
    ("law", "std", "bias_std"),
    [("uniform", WIDTH**-0.5 / 3**0.5, WIDTH**-0.5 / 3**0.5), ("trunc_normal", 0.02, 0.0), ("zero", 0.0, 0.0)],
)
def test_weights_follow_the_law(law: HeadInit, std: float, bias_std: float) -> None:
    head = adapted(law).head
    assert head.weight.std().item() == pytest.approx(std, rel=0.05)
    assert head.bias.std().item() == pytest.approx(bias_std, rel=0.25)


def test_every_method_has_the_same_head_at_the_start_of_a_seed() -> None:
    alone, beside = adapted("trunc_normal"), adapted("trunc_normal", name="adaptertune", rank=4)
    assert torch.equal(alone.head.weight, beside.head.weight)
    assert not torch.equal(alone.head.weight, adapted("trunc_normal", seed=1).head.weight)
