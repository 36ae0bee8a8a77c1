"""Memory of one training step, measured, beside what `adaptertune plan` predicts; each row in a process of its own.

    python -m tests.performance.memory                 # the table for this machine's CPU
    python -m tests.performance.memory --device cuda   # the same on a GPU, at the images of `--device cuda`
    python -m tests.performance.memory --only large --images 2

On a CPU the measure is the resident memory that the process takes more at the step's peak than before the model was
built; on a GPU it is `torch.cuda.max_memory_allocated`. Weights are random, AdamW's moments are there before the step,
and glibc is told to give memory back at once. A row takes as many images as fit into about 6 GB.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from launch.allocation import give_back

SIZES = {
    "tiny": "vit_tiny_patch16_224.augreg_in21k",
    "small": "vit_small_patch16_224.augreg_in21k",
    "base": "vit_base_patch16_224.augreg_in21k",
    "large": "vit_large_patch16_224.augreg_in21k",
}
METHODS: dict[str, Any] = {"adaptertune": {"name": "adaptertune", "rank": 16}, "full_finetune": "full_finetune"}
GPU_IMAGES = 32
CPU_IMAGES = {"tiny": 32, "small": 32, "base": 16, "large": 6}
PACK_IMAGES, PACK_SIZE = 16, 8
TOLERANCE = 0.10


@dataclass(frozen=True)
class Row:
    """One measurement: a backbone, a method, images a trial, and trials in one pass."""

    size: str
    method: str
    images: int
    trials: int
    precision: str
    device: str


def rows(device: str, precision: str) -> Iterator[Row]:
    """Yield the table's rows, the pack and the one trial that it is compared with last."""
    for size in SIZES:
        images = GPU_IMAGES if device == "cuda" else CPU_IMAGES[size]
        for method in METHODS:
            yield Row(size, method, images, 1, precision, device)
    yield Row("tiny", "adaptertune", PACK_IMAGES * PACK_SIZE, 1, precision, device)
    yield Row("tiny", "adaptertune", PACK_IMAGES, PACK_SIZE, precision, device)


def spec_and_plan(row: Row) -> tuple[Any, Any]:
    """Return the trial of a row, and its plan."""
    from benchmark.launch_plan import plan_launch
    from benchmark.request import resolve_trial

    request = {
        "backbone": {"name": SIZES[row.size], "weights": "random"},
        "dataset": "cifar100",
        "method": METHODS[row.method],
        "training": {"global_batch_images": row.images, "precision": row.precision},
    }
    plan = plan_launch(row.images, device="cuda" if row.device == "cuda" else "cpu", threads_per_worker=2)
    return resolve_trial(request), plan


def predicted_bytes(row: Row) -> int:
    """Return what `plan` says of one trial; none of it is kept from epoch to epoch here."""
    from benchmark.training.estimate import estimate

    spec, plan = spec_and_plan(row)
    return estimate(spec, plan.model_copy(update={"prefix_cache_bytes": 0})).memory_bytes


def measured_bytes(row: Row) -> int:
    """Run one step of the suite's engine, and return what it took at its peak."""
    import torch
    import torch.nn.functional as functional

    from benchmark.training.engine import ParameterGroup, TrainingEngine
    from benchmark.training.frozen_weights import cast_frozen_weights
    from benchmark.training.memory import forget_peak_memory, peak_memory_bytes
    from benchmark.training.model import assemble
    from benchmark.training.packed_model import PackedClassifier, share_frozen
    from benchmark.training.pretrained import autocast_dtype_of
    from benchmark.training.process_group import join, leave

    spec, plan = spec_and_plan(row)
    torch.set_num_threads(plan.threads_per_worker)
    join(0, 1, device=plan.device)
    _load_kernels(torch, plan.device)
    before = _resident_bytes(plan.device)
    dtype = autocast_dtype_of(spec.training.precision)
    models = [assemble(spec, 100).to(plan.device)]
    for _ in range(row.trials - 1):
        models.append(assemble(spec, 100).to(plan.device))
        share_frozen(models[0], models[-1])
    if dtype is not None:
        for model in models:
            cast_frozen_weights(model, dtype)
    groups = [ParameterGroup(list(model.trainable().values()), 0.05, 1.0) for model in models]
    engine = TrainingEngine(PackedClassifier(models), groups, spec.training.precision, plan)
    _make_moments(torch, engine, groups)
    size = spec.backbone.image_size_pixels
    _give_back()
    forget_peak_memory(plan.device)
    pixels = torch.rand(row.images, 3, size, size, device=plan.device)
    labels = torch.zeros(row.images, dtype=torch.int64, device=plan.device)
    inputs = [pixels if index == 0 else pixels.clone() for index in range(row.trials)]
    logits = engine(inputs)
    engine.accumulate(torch.stack([functional.cross_entropy(one.float(), labels) for one in logits]).sum())
    engine.step([1e-3] * row.trials)
    peak = peak_memory_bytes(plan.device)
    assert peak is not None, "this system does not tell a process's peak"
    leave()
    return peak - before


def _load_kernels(torch: Any, device: str) -> None:
    """Let libraries take what they keep for themselves, before the measurement begins."""
    from timm.models.vision_transformer import VisionTransformer

    small = VisionTransformer(img_size=32, embed_dim=64, depth=1, num_heads=2, num_classes=2).to(device)
    small(torch.rand(2, 3, 32, 32, device=device)).sum().backward()
    del small
    _give_back()


def _make_moments(torch: Any, engine: Any, groups: Sequence[Any]) -> None:
    for group in groups:
        for parameter in group.parameters:
            parameter.grad = torch.zeros_like(parameter)
    engine.optimizer.step()
    engine.optimizer.zero_grad(set_to_none=True)


def _resident_bytes(device: str) -> int:
    if device == "cuda":
        return 0
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _give_back() -> None:
    gc.collect()
    give_back()


def in_own_process(row: Row) -> int:
    """Measure a row in a fresh process."""
    command = [sys.executable, "-m", "tests.performance.memory", "--row", json.dumps(asdict(row))]
    # Without a fixed threshold glibc keeps freed blocks of up to 32 MiB.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        sys.exit(done.stderr)
    return int(done.stdout.split()[-1])


def main() -> None:
    """Print the table, and exit with 1 where a prediction is off by more than a tenth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--only", default="", help="a part of a row's name, such as tiny or full_finetune")
    parser.add_argument("--images", type=int, help="a trial's, instead of those of the table")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        _say(measured_bytes(Row(**json.loads(options.row))))
        return
    _say("| backbone | method | images | predicted, MB | measured, MB | off |\n|---|---|---:|---:|---:|---:|")
    worst = 0.0
    for row in rows(options.device, options.precision):
        if options.only not in f"{row.size} {row.method} x{row.trials}":
            continue
        row = replace(row, images=options.images or row.images)
        measured = in_own_process(row)
        if row.trials > 1:
            share = f"{row.trials} × {row.images}"
            _say(f"| {row.size} | {row.method}, {row.trials} in one pass | {share} | | {_mb(measured)} | |")
            continue
        predicted = predicted_bytes(row)
        off = predicted / measured - 1
        worst = max(worst, abs(off))
        _say(
            f"| {row.size} | {row.method} | {row.images} | {_mb(predicted)} | {_mb(measured)} | {off:+.1%} |",
        )
    if not options.only:
        _print_ratio(options.device, options.precision)
    sys.exit(worst > TOLERANCE)


def _print_ratio(device: str, precision: str) -> None:
    adapter, full = (predicted_bytes(Row("large", method, GPU_IMAGES, 1, precision, device)) for method in METHODS)
    _say(
        f"\nViT-L/16 at {GPU_IMAGES} images, predicted: adapter {_mb(adapter)} MB, full fine-tuning {_mb(full)} MB: "
        f"{adapter / full:.0%} of it."
    )


def _say(text: object) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _mb(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.0f}"


if __name__ == "__main__":
    main()
