"""What changes the time of a trial leaves its result: each option, and all of them together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from benchmark.launch_plan import ComputeOptions, plan_launch
from benchmark.request import resolve_trial
from benchmark.result import TrialOutcome
from benchmark.spec import TrialSpec
from benchmark.training.attention import MOST_EXPLICIT_TOKENS, choose_attention
from benchmark.training.blocks import checkpoint_blocks
from benchmark.training.estimate import saved_bytes
from benchmark.training.evaluation import Evaluator
from benchmark.training.model import AdaptedClassifier, assemble
from benchmark.training.process_group import join, leave
from benchmark.training.trial import trial_steps
from tests.packs import logits_of

ALL_OFF = {
    "prefix_cache_bytes": 0,
    "prefix_file_bytes": 0,
    "cast_frozen_weights": False,
    "explicit_attention": False,
}


@pytest.fixture(scope="module", autouse=True)
def group() -> Iterator[None]:
    torch.set_num_threads(1)
    join(0, 1)
    yield
    leave()


def spec_of(method: Any, precision: str = "fp32", augmentation: str = "shift") -> TrialSpec:
    training = {"epochs": 2, "warmup_epochs": 0, "global_batch_images": 128, "precision": precision}
    protocol = {"name": "fair", "augmentation": augmentation}
    return resolve_trial(
        {"backbone": "vit_nano", "dataset": "digits", "method": method, "training": training, "protocol": protocol}
    )


def outcome_of(spec: TrialSpec, **options: Any) -> TrialOutcome:
    *_, outcome = trial_steps(spec, plan_launch(128, compute=ComputeOptions(**options)))
    assert isinstance(outcome, TrialOutcome)
    return outcome


def model_of(method: Any) -> AdaptedClassifier:
    return assemble(spec_of(method), 10)


ADAPTERTUNE = {"name": "adaptertune", "rank": 8}
CHECKPOINTED = [ADAPTERTUNE, {"name": "adapter_plus", "rank": 8}, {"name": "lora", "rank": 4}, "full_finetune"]


@pytest.mark.parametrize("method", CHECKPOINTED, ids=str)
def test_result_is_equal_to_the_bit_when_blocks_are_run_again(method: Any) -> None:
    """`adapter_plus` draws DropPath's masks inside its blocks: the second run must draw the same."""
    spec = spec_of(method)
    kept, again = outcome_of(spec), outcome_of(spec, checkpoint_activations=True)
    assert again.result.first_step_losses == kept.result.first_step_losses
    assert again.predictions == kept.predictions


def test_fewer_bytes_are_kept_when_blocks_are_run_again() -> None:
    pixels, labels = torch.zeros(8, 3, 18, 18), torch.zeros(8, dtype=torch.int64)
    model = model_of("full_finetune")
    before = saved_bytes(model, pixels, labels)
    assert checkpoint_blocks(model) == 6
    assert saved_bytes(model, pixels, labels) < before / 3


@pytest.mark.slow
@pytest.mark.parametrize("method", [ADAPTERTUNE, {"name": "lora", "rank": 4}], ids=str)
def test_result_is_equal_within_rounding_when_blocks_are_compiled(method: Any) -> None:
    """fp32; compiled code fuses operations, so sums are rounded in another order: 1e-5 over all steps' losses."""
    spec = spec_of(method)
    eager, compiled = outcome_of(spec), outcome_of(spec, compile_blocks=True)
    assert np.allclose(compiled.result.first_step_losses, eager.result.first_step_losses, rtol=0, atol=1e-5)
    assert np.array_equal(logits_of(compiled).argmax(1), logits_of(eager).argmax(1))


def test_result_is_equal_within_the_precision_of_bf16_when_attention_is_explicit() -> None:
    """bf16 has 8 bits of mantissa: losses near 2 may differ by 2^-8 of that a step, and by less on average."""
    spec = spec_of(ADAPTERTUNE, "bf16")
    explicit, fused = outcome_of(spec), outcome_of(spec, explicit_attention=False)
    differences = np.subtract(explicit.result.first_step_losses, fused.result.first_step_losses)
    assert np.abs(differences).max() < 2**-7
    assert abs(differences.mean()) < 2**-10
    assert (logits_of(explicit).argmax(1) == logits_of(fused).argmax(1)).mean() > 0.98


def test_result_is_equal_when_all_options_are_off() -> None:
    """fp32 on a CPU: what is left on there gives the same bits."""
    spec = spec_of({"name": "adaptertune", "rank": 8, "placement": "last:2"}, augmentation="none")
    on, off = outcome_of(spec), outcome_of(spec, **ALL_OFF)
    assert on.result.first_step_losses == off.result.first_step_losses
    assert on.predictions == off.predictions


@pytest.mark.parametrize(
    ("device", "dtype", "is_wanted", "num_changed"),
    [
        ("cpu", torch.bfloat16, True, 6),
        ("cpu", torch.bfloat16, False, 0),
        ("cpu", None, True, 0),
        ("cuda", torch.bfloat16, True, 0),
    ],
)
def test_attention_is_explicit_only_where_the_fused_kernel_is_slow(
    device: str, dtype: torch.dtype | None, is_wanted: bool, num_changed: int
) -> None:
    evaluator = Evaluator(0, 1, 64, torch.device(device), dtype, is_wanted)
    assert choose_attention(model_of(ADAPTERTUNE).backbone, evaluator) == num_changed


def test_attention_stays_fused_when_images_have_many_tokens() -> None:
    backbone = model_of(ADAPTERTUNE).backbone
    backbone.patch_embed.num_patches = MOST_EXPLICIT_TOKENS + 1
    assert choose_attention(backbone, Evaluator(0, 1, 64, torch.device("cpu"), torch.bfloat16)) == 0
