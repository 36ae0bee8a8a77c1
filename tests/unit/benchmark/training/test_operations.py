"""Operation counts equal the Transformer's formula, and a frozen part behind which nothing trains has no backward."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.request import read_trial
from benchmark.spec import TrialSpec
from benchmark.training.model import AdaptedClassifier, assemble
from benchmark.training.operations import flops_per_image

TOKENS, WIDTH, BLOCKS, MLP_RATIO, PATCH_PIXELS, CLASSES = 10, 64, 6, 2, 6, 10


def trial(tmp_path: Path, method: str) -> tuple[AdaptedClassifier, TrialSpec]:
    path = tmp_path / "trial.yaml"
    path.write_text(f"{{backbone: vit_nano, dataset: digits, method: {method}}}")
    spec, _ = read_trial(path)
    return assemble(spec, CLASSES), spec


def backbone_flops() -> int:
    """Count qkv, projection and MLP, the two products of attention, and the patches; a multiply-add is two."""
    linear = 2 * TOKENS * (4 + 2 * MLP_RATIO) * WIDTH**2
    attention = 2 * 2 * TOKENS**2 * WIDTH
    patches = 2 * (TOKENS - 1) * 3 * PATCH_PIXELS**2 * WIDTH
    return BLOCKS * (linear + attention) + patches


def test_forward_equals_the_formula_when_only_the_head_trains(tmp_path: Path) -> None:
    flops = flops_per_image(*trial(tmp_path, "head_only"))
    head = 2 * WIDTH * CLASSES
    assert flops.forward == backbone_flops() + head
    assert flops.training == flops.forward + head, "the head's weight gradient, and nothing behind it"


def test_forward_grows_by_the_two_projections_when_adapters_are_attached(tmp_path: Path) -> None:
    rank = 8
    flops = flops_per_image(*trial(tmp_path, f"{{name: adaptertune, rank: {rank}}}"))
    assert flops.forward - backbone_flops() == 2 * WIDTH * CLASSES + BLOCKS * 2 * 2 * TOKENS * WIDTH * rank


def test_training_is_cheaper_when_the_first_adapter_sits_later(tmp_path: Path) -> None:
    everywhere, last = (
        flops_per_image(*trial(tmp_path, f"{{name: adaptertune, rank: 8, placement: '{placement}'}}"))
        for placement in ("all", "last:1")
    )
    assert last.training - last.forward < 0.1 * (everywhere.training - everywhere.forward)


def test_training_is_one_forward_pass_when_the_head_has_a_closed_form(tmp_path: Path) -> None:
    flops = flops_per_image(*trial(tmp_path, "lda_head"))
    assert flops.training == flops.forward


@pytest.mark.parametrize("method", ["full_finetune", "{name: vpt_deep, num_prompts: 3}"])
def test_no_gradient_is_left_when_operations_were_counted(method: str, tmp_path: Path) -> None:
    model, spec = trial(tmp_path, method)
    flops_per_image(model, spec.model_copy(update={"seed": spec.seed + 1}))
    assert all(parameter.grad is None for parameter in model.parameters())
