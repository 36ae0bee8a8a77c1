"""What a step takes is found without values, and equals what the same step takes with them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from benchmark.launch_plan import ComputeOptions, plan_launch
from benchmark.request import resolve_trial
from benchmark.spec import TrialSpec
from benchmark.training.estimate import estimate
from benchmark.training.fitting import fitted, zero_stages
from benchmark.training.footprint import LARGEST_BUCKET_ELEMENTS, Footprint, step_footprint
from benchmark.training.model import assemble
from benchmark.training.valueless import valueless_model

ADAPTER = {"name": "adaptertune", "rank": 8}
BATCH_IMAGES, SIZE_PIXELS, CLASSES = 128, 18, 10


def trial(method: Any, precision: str = "fp32", **training: Any) -> TrialSpec:
    fields = {"precision": precision, "global_batch_images": BATCH_IMAGES, "epochs": 2, "warmup_epochs": 0, **training}
    return resolve_trial({"backbone": "vit_nano", "dataset": "digits", "method": method, "training": fields})


@pytest.mark.parametrize("accumulation_steps", [1, 4])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", ["head_only", ADAPTER, "full_finetune", {"name": "vpt_deep", "num_prompts": 3}])
def test_step_takes_the_same_when_its_tensors_have_values(method: Any, precision: str, accumulation_steps: int) -> None:
    spec, plan = trial(method, precision), plan_launch(BATCH_IMAGES, accumulation_steps=accumulation_steps)
    size = spec.backbone.image_size_pixels
    with valueless_model(spec, CLASSES) as model:
        found = step_footprint(model, precision, plan, size)
    assert found == step_footprint(assemble(spec, CLASSES), precision, plan, size)


def test_weights_and_moments_equal_the_formula_when_everything_trains() -> None:
    counted = estimate(trial("full_finetune"), plan_launch(BATCH_IMAGES))
    # The README's count with the head, in fp32; AdamW keeps two moments of each.
    assert counted.num_trainable_parameters == 209_290
    assert counted.memory.weights == 4 * 209_290
    assert counted.memory.optimiser == 2 * 4 * 209_290
    assert counted.memory_bytes == counted.memory.total


def test_gradients_wait_in_memory_when_steps_accumulate() -> None:
    spec = trial("full_finetune")
    once, twice = (estimate(spec, plan_launch(BATCH_IMAGES, accumulation_steps=steps)).memory for steps in (1, 2))
    assert twice.gradients == 4 * 209_290 > once.gradients
    assert twice.activations == pytest.approx(once.activations / 2, rel=0.01)


def test_gradients_are_copied_for_the_sum_when_there_are_several_workers() -> None:
    spec = trial("full_finetune", global_batch_images=2)
    shared = estimate(spec, plan_launch(2, num_workers=2)).memory
    assert shared.communication == shared.gradients == 4 * 209_290 < 4 * LARGEST_BUCKET_ELEMENTS


def test_kept_outputs_are_counted_when_the_frozen_part_is_run_once() -> None:
    # digits: 1,257 / 180 / 360 images, none augmented; a head alone keeps pooled features of width 64 in fp32.
    spec = trial("head_only")
    assert estimate(spec, plan_launch(BATCH_IMAGES)).memory.cache == (1257 + 180 + 360) * 64 * 4
    plans = [plan_launch(BATCH_IMAGES, compute=ComputeOptions(prefix_cache_bytes=most)) for most in (250_000, 0)]
    assert [estimate(spec, plan).memory.cache for plan in plans] == [(180 + 360) * 64 * 4, 0]


def test_fewer_activations_are_counted_when_blocks_are_run_again() -> None:
    spec = trial("full_finetune")
    kept, again = (
        estimate(spec, plan_launch(BATCH_IMAGES, compute=ComputeOptions(checkpoint_activations=switch))).memory
        for switch in (False, True)
    )
    assert again.activations < kept.activations / 2
    assert again.weights == kept.weights


def test_micro_batch_is_the_largest_that_fits_when_memory_is_scarce() -> None:
    spec, plan = trial("full_finetune"), plan_launch(BATCH_IMAGES)
    whole = estimate(spec, plan).memory_bytes
    (roomy, scarce, none) = fitted(spec, plan, [whole, whole // 3, whole // 1000])
    assert (roomy.plan, roomy.fits) == (plan, True)
    assert scarce.fits and scarce.plan.global_batch_images == BATCH_IMAGES
    assert (none.plan.micro_batch_images, none.fits) == (1, False)
    larger = scarce.plan.model_copy(
        update={
            "micro_batch_images": 2 * scarce.plan.micro_batch_images,
            "accumulation_steps": scarce.plan.accumulation_steps // 2,
        }
    )
    assert estimate(spec, scarce.plan).memory_bytes <= scarce.memory.total <= whole // 3
    assert estimate(spec, larger).memory_bytes > whole // 3


def test_each_part_is_divided_from_its_stage_on() -> None:
    whole = Footprint(weights=400, activations=50, gradients=80, optimiser=160, temporary=9)
    assert whole.sharded(0, 4) == whole
    assert whole.sharded(1, 4) == replace(whole, optimiser=40)
    assert whole.sharded(2, 4) == replace(whole, optimiser=40, gradients=20)
    assert whole.sharded(3, 4) == replace(whole, optimiser=40, gradients=20, weights=100)
    assert zero_stages()[0] == 0


def test_little_memory_is_taken_when_the_backbone_is_huge() -> None:
    code = """
import resource
from benchmark.launch_plan import ComputeOptions, plan_launch
from benchmark.request import resolve_trial
from benchmark.training.estimate import estimate
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
request = {"backbone": "BACKBONE", "dataset": "cifar100", "method": "full_finetune"}
estimate(resolve_trial({**request, "backbone": "vit_tiny_patch16_224.augreg_in21k"}), plan_launch(128))
before = peak()
counted = estimate(resolve_trial(request), plan_launch(128))
print(counted.num_total_parameters, counted.memory.weights, peak() - before)
""".replace("BACKBONE", "vit_huge_patch14_224.orig_in21k")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=True)
    num_parameters, weight_bytes, taken_bytes = map(int, done.stdout.split())
    # 630,764,800 without a head (timm), and a head of 100 classes at width 1280.
    assert num_parameters == 630_764_800 + 1281 * 100
    assert weight_bytes >= 4 * num_parameters
    # Bookkeeping of some thousand operations, where the weights alone would take 2.5 GB.
    assert taken_bytes < 200 * 10**6
