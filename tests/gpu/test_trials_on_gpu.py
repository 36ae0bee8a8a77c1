"""Trials on a CUDA GPU over NCCL: what changes the time leaves the result, and a GPU gives what a CPU gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from benchmark.errors import DivergedError
from benchmark.launch_plan import ComputeOptions, LaunchPlan, plan_launch
from benchmark.request import resolve_trial
from benchmark.result import TrialOutcome, TrialStatus
from benchmark.spec import TrialSpec
from benchmark.training.failure import status_of
from benchmark.training.open_trial import OpenTrial
from benchmark.training.pack import Pack
from benchmark.training.prefix import CACHE
from benchmark.training.replay import ReplayedClassifier
from benchmark.training.trial import EpochReport, trial_steps
from tests.packs import BATCH, MIXED, adapter, logits_of, reports_of, trial

FP32_LOSS_TOLERANCE = 1e-5
"""Of packed or kept against alone in fp32 on a GPU: matrix products of other sizes add in other orders."""
BF16_LOSS_TOLERANCE = 2**-7
"""Losses near 2 in a type of 8 bits of mantissa."""


WITH_MASKS = {**MIXED, "more epochs": trial(adapter(placement="last:2", rank=2), seed=1, epochs=2)}
UNMASKED = {name: spec for name, spec in WITH_MASKS.items() if name != "inside the branches"}


def plan(spec: TrialSpec, **switches: Any) -> LaunchPlan:
    return plan_launch(spec.training.global_batch_images, device="cuda", compute=ComputeOptions(**switches))


def alone(spec: TrialSpec, checkpoint: bytes | None = None, **switches: Any) -> TrialOutcome:
    CACHE.clear()
    *_, outcome = trial_steps(spec, plan(spec, **switches), checkpoint)
    assert isinstance(outcome, TrialOutcome)
    return outcome


def packed(specs: Sequence[TrialSpec], **switches: Any) -> dict[str, list[Any]]:
    CACHE.clear()
    return reports_of(specs, plan(specs[0], **switches))


def farthest(found: TrialOutcome, expected: TrialOutcome, num_steps: int = 50) -> float:
    """Return the largest difference between the losses of the first steps."""
    pairs = zip(found.result.first_step_losses[:num_steps], expected.result.first_step_losses[:num_steps], strict=True)
    return max(abs(a - b) for a, b in pairs)


def share_of_equal_classes(found: TrialOutcome, expected: TrialOutcome) -> float:
    return float((logits_of(found).argmax(1) == logits_of(expected).argmax(1)).mean())


@pytest.mark.parametrize("graphs", [True, False], ids=["replayed", "launched"])
@pytest.mark.parametrize("masks", [True, False], ids=["with masks", "without masks"])
def test_trials_equal_themselves_alone_when_they_train_in_one_pass(
    graphs: bool, masks: bool, note_line: Callable[[str], None]
) -> None:
    """With masks the first epoch is launched; the trial that goes on alone is replayed after it."""
    specs = WITH_MASKS if masks else UNMASKED
    found = packed(list(specs.values()), cuda_graphs=graphs)
    for name, spec in specs.items():
        expected = alone(spec, cuda_graphs=False)
        difference = farthest(found[spec.trial_id][-1], expected)
        note_line(f"packed against alone, {name}: losses within {difference:.1e}")
        assert difference < FP32_LOSS_TOLERANCE
        assert share_of_equal_classes(found[spec.trial_id][-1], expected) == 1.0
        assert found[spec.trial_id][-1].result.provenance.device.startswith("cuda: ")


def test_trial_that_diverges_leaves_the_others_as_they_are() -> None:
    lost = trial("head_only", learning_rate=1e30, gradient_clip_norm=None)
    kept = [trial(adapter(placement="last:2"), epochs=2), trial(adapter(), seed=1)]
    found = packed([kept[0], lost, kept[1]])
    assert isinstance(found[lost.trial_id][-1], DivergedError)
    for spec in kept:
        assert farthest(found[spec.trial_id][-1], alone(spec)) < FP32_LOSS_TOLERANCE


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("augmentation", ["shift", "none"])
@pytest.mark.parametrize("method", [adapter(), adapter(placement="last:2"), "head_only"], ids=str)
def test_result_is_equal_to_the_bit_when_steps_are_replayed(
    method: Any, augmentation: str, precision: str, note_line: Callable[[str], None]
) -> None:
    """Without augmentation the inputs are what the frozen part made of the images."""
    spec = trial(method, augmentation=augmentation, precision=precision)
    launched, again, replayed = alone(spec, cuda_graphs=False), alone(spec, cuda_graphs=False), alone(spec)
    note_line(
        f"{precision}, {method}: launched twice within {farthest(launched, again):.1e}, "
        f"replayed within {farthest(replayed, launched):.1e}"
    )
    assert replayed.result.first_step_losses == launched.result.first_step_losses
    assert replayed.predictions == launched.predictions


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_result_is_equal_within_rounding_when_the_prefix_is_kept(
    precision: str, note_line: Callable[[str], None]
) -> None:
    """The prefix runs in evaluation's batches of 256 instead of training's of 16: products add in other orders."""
    spec = trial(adapter(placement="last:2"), augmentation="none", precision=precision)
    kept, plain = alone(spec), alone(spec, prefix_cache_bytes=0, prefix_file_bytes=0)
    note_line(f"{precision}, kept prefix: losses within {farthest(kept, plain):.1e}")
    assert farthest(kept, plain) < (FP32_LOSS_TOLERANCE if precision == "fp32" else BF16_LOSS_TOLERANCE)
    assert share_of_equal_classes(kept, plain) > 0.98


def test_result_is_equal_within_rounding_when_blocks_are_compiled(note_line: Callable[[str], None]) -> None:
    spec = trial(adapter(), global_batch_images=64)
    eager, compiled = alone(spec), alone(spec, compile_blocks=True)
    note_line(f"fp32, compiled: losses within {farthest(compiled, eager, 16):.1e}")
    assert farthest(compiled, eager, 16) < FP32_LOSS_TOLERANCE
    assert share_of_equal_classes(compiled, eager) > 0.99


def test_result_is_equal_within_rounding_when_every_option_is_off(note_line: Callable[[str], None]) -> None:
    spec = trial(adapter(placement="last:2"), augmentation="none")
    off = {"prefix_cache_bytes": 0, "prefix_file_bytes": 0, "cast_frozen_weights": False, "cuda_graphs": False}
    on, without = alone(spec), alone(spec, **off)
    note_line(f"fp32, all options: losses within {farthest(on, without):.1e}")
    assert farthest(on, without) < FP32_LOSS_TOLERANCE


def by_command(folder: Path, device: str, method: Any, **training: Any) -> tuple[dict[str, Any], Any]:
    """Train a trial with `python -m benchmark`; return its result and the classes it gave the test images."""
    request = {
        "backbone": "vit_nano",
        "dataset": "digits",
        "method": method,
        "training": {"epochs": 2, "warmup_epochs": 1, "global_batch_images": 64, **training},
        "launch": {"device": device},
    }
    path, output = folder / f"{device}.yaml", folder / device
    path.write_text(yaml.safe_dump(request), encoding="utf-8")
    command = [sys.executable, "-m", "benchmark", str(path), "--output-dir", str(output)]
    # This process has joined a group of its own, as whose rank the command would take itself.
    environment = {
        name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    }
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    result = json.loads((output / "result.json").read_text(encoding="utf-8"))
    return result, np.load(output / "predictions.npz")["logits"].argmax(1)


@pytest.mark.parametrize("method", [adapter(), "full_finetune", {"name": "lora", "rank": 4}], ids=str)
def test_gpu_gives_the_losses_of_a_cpu_in_fp32(method: Any, tmp_path: Path, note_line: Callable[[str], None]) -> None:
    (on_gpu, gpu_classes), (on_cpu, cpu_classes) = (by_command(tmp_path, device, method) for device in ("cuda", "cpu"))
    losses = [np.array(result["first_step_losses"]) for result in (on_gpu, on_cpu)]
    note_line(f"{method}: GPU against CPU, losses within {np.abs(losses[0] - losses[1]).max():.1e}")
    assert np.abs(losses[0] - losses[1]).max() < 1e-4
    assert (gpu_classes == cpu_classes).mean() > 0.99


def test_trial_that_is_resumed_equals_one_that_was_not() -> None:
    spec = trial(adapter(), epochs=3, global_batch_images=64)
    *epochs, whole = trial_steps(spec, plan(spec))
    assert isinstance(whole, TrialOutcome) and isinstance(epochs[2], EpochReport)
    resumed = alone(spec, epochs[2].checkpoint)
    assert [record.epoch for record in resumed.result.epochs] == [0, 1, 2, 3]
    assert resumed.result.epochs[3].train_loss == whole.result.epochs[3].train_loss
    assert resumed.predictions == whole.predictions


def test_graphs_are_used_where_batches_are_small_and_nowhere_else() -> None:
    def model_of(spec: TrialSpec, how: LaunchPlan) -> Any:
        member = OpenTrial(spec, how, None)
        pack = Pack([member], how)
        try:
            pack.train_epoch([member])
            return pack._model
        finally:
            pack.close()

    spec, masked = MIXED["all blocks"], MIXED["inside the branches"]
    assert isinstance(model_of(spec, plan(spec)), ReplayedClassifier)
    assert not isinstance(model_of(spec, plan(spec, cuda_graphs=False)), ReplayedClassifier)
    assert not isinstance(model_of(masked, plan(masked)), ReplayedClassifier)
    accumulated = plan_launch(BATCH, accumulation_steps=2, device="cuda")
    assert not isinstance(model_of(spec, accumulated), ReplayedClassifier)


def test_graphs_memory_is_free_when_the_trial_ended() -> None:
    spec = trial(adapter(), global_batch_images=256)
    alone(spec)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    for _ in range(3):
        alone(spec)
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() <= before * 1.2 + 2**22


def test_process_trains_on_when_a_trial_ran_out_of_memory() -> None:
    batch = 256
    request = {
        "backbone": {"name": "vit_base_patch16_224.augreg_in21k", "weights": "random"},
        "dataset": "digits",
        "method": "full_finetune",
        "training": {"epochs": 1, "warmup_epochs": 0, "global_batch_images": batch},
    }
    torch.cuda.set_per_process_memory_fraction(3e9 / torch.cuda.get_device_properties(0).total_memory)
    try:
        with pytest.raises(torch.cuda.OutOfMemoryError) as caught:
            list(trial_steps(resolve_trial(request), plan_launch(batch, device="cuda")))
        assert status_of(caught.value)[0] is TrialStatus.OUT_OF_MEMORY
        del caught
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    spec = trial(adapter())
    assert farthest(alone(spec), alone(spec)) < FP32_LOSS_TOLERANCE


def test_one_command_trains_a_trial_in_bf16(tmp_path: Path) -> None:
    result, _ = by_command(tmp_path, "cuda", adapter(), learning_rate=3e-3, precision="bf16")
    assert result["test"]["top1"] > 0.75
    assert result["provenance"]["device"].startswith("cuda: ")
    assert result["cost"]["peak_memory_bytes"] > 0
    assert result["cost"]["energy_joules"] is None or result["cost"]["energy_joules"] > 0
