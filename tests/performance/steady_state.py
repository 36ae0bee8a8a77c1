"""Training steps of one trial: a plain loop, the suite's model without DeepSpeed, and the suite, interleaved.

    python -m tests.performance.steady_state                                      # digits' input size on vit_nano
    python -m tests.performance.steady_state --backbone vit_tiny --image-size 224 --compile
    python -m tests.performance.steady_state --backbone vit_tiny --image-size 96 --profile

AdapterTune at rank 16 in every block, random weights, one batch in memory: what is timed is the step alone. The plain
loop is fp32 and timm's own model; `plain, bf16` is the same under autocast. The share is that of this machine's own
rate of matrix products in the same type and with as many threads, measured in the same run. `ratio` is the suite's
images a second divided by the row's. `--compile` adds a row with compiled blocks; `--profile` prints what a step of the
suite consists of.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.profiler import profile

from benchmark.launch_plan import plan_launch
from benchmark.methods.contract import find_method
from benchmark.training.attention import choose_attention
from benchmark.training.blocks import compile_blocks
from benchmark.training.engine import ParameterGroup, TrainingEngine
from benchmark.training.evaluation import Evaluator
from benchmark.training.frozen_weights import cast_frozen_weights
from benchmark.training.model import AdaptedClassifier, adapt
from benchmark.training.operations import OperationCounter
from benchmark.training.packed_model import PackedClassifier
from benchmark.training.process_group import join, leave

SHAPES = {
    "vit_nano": {"patch_size": 6, "embed_dim": 64, "depth": 6, "num_heads": 4, "mlp_ratio": 2.0},
    "vit_tiny": {"patch_size": 16, "embed_dim": 192, "depth": 12, "num_heads": 3},
    "vit_small": {"patch_size": 16, "embed_dim": 384, "depth": 12, "num_heads": 6},
    "vit_base": {"patch_size": 16, "embed_dim": 768, "depth": 12, "num_heads": 12},
    "vit_large": {"patch_size": 16, "embed_dim": 1024, "depth": 24, "num_heads": 16},
    "vit_huge": {"patch_size": 14, "embed_dim": 1280, "depth": 32, "num_heads": 16},
}
NUM_CLASSES, RANK, CLIP_NORM, LEARNING_RATE = 10, 16, 1.0, 1e-3


@dataclass(frozen=True)
class Arm:
    """One way to take a step, and the type its matrix products are in."""

    name: str
    step: Callable[[], None]
    dtype: torch.dtype


def model_of(options: argparse.Namespace, dtype: torch.dtype | None, is_compiled: bool = False) -> AdaptedClassifier:
    backbone = VisionTransformer(**SHAPES[options.backbone], img_size=options.image_size, num_classes=0)
    method = find_method("adaptertune")
    model = adapt(backbone, method, method.Options(rank=RANK), 0, NUM_CLASSES)
    if dtype is not None:
        choose_attention(backbone, Evaluator(0, 1, 64, torch.device("cpu"), dtype))
        cast_frozen_weights(model, dtype)
    if is_compiled:
        compile_blocks(model)
    return model


def plain_step(model: nn.Module, pixels: Tensor, labels: Tensor, is_bf16: bool) -> Callable[[], None]:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
            logits = model(pixels)
        nn.functional.cross_entropy(logits.float(), labels).backward()
        nn.utils.clip_grad_norm_(trained, CLIP_NORM)
        optimizer.step()

    return step


def engine_step(model: AdaptedClassifier, pixels: Tensor, labels: Tensor, precision: str) -> Callable[[], None]:
    group = ParameterGroup(list(model.trainable().values()), 0.0, CLIP_NORM)
    engine = TrainingEngine(PackedClassifier([model]), [group], precision, plan_launch(len(pixels)))

    def step() -> None:
        (logits,) = engine([pixels])
        engine.accumulate(nn.functional.cross_entropy(logits.float(), labels))
        engine.step([LEARNING_RATE])

    return step


def arms_of(options: argparse.Namespace, pixels: Tensor, labels: Tensor) -> list[Arm]:
    bf16, fp32 = torch.bfloat16, torch.float32
    compiled = engine_step(model_of(options, bf16, True), pixels, labels, "bf16") if options.compile else None
    return [
        *([Arm("suite, bf16, compiled", compiled, bf16)] if compiled else []),
        Arm("plain, fp32", plain_step(model_of(options, None), pixels, labels, False), fp32),
        Arm("plain, bf16", plain_step(model_of(options, None), pixels, labels, True), bf16),
        Arm("suite, fp32", engine_step(model_of(options, None), pixels, labels, "fp32"), fp32),
        Arm("suite's model in a plain loop, bf16", plain_step(model_of(options, bf16), pixels, labels, True), bf16),
        Arm("suite, bf16", engine_step(model_of(options, bf16), pixels, labels, "bf16"), bf16),
    ]


def rate_of_products(dtype: torch.dtype, size: int = 2048, num_products: int = 5) -> float:
    """Return operations a second of square matrix products."""
    left, right = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    rates = []
    for _ in range(num_products):
        started = time.perf_counter()
        left @ right
        rates.append(2 * size**3 / (time.perf_counter() - started))
    return max(rates)


def flops_of(model: AdaptedClassifier, pixels: Tensor) -> int:
    """Return the operations of one image's forward and backward pass."""
    with OperationCounter() as counter:
        model(pixels[:1]).sum().backward()
    return counter.flops


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", choices=SHAPES, default="vit_nano")
    parser.add_argument("--image-size", type=int, default=18)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="a round")
    parser.add_argument("--compile", action="store_true", help="also with compiled blocks")
    parser.add_argument("--profile", action="store_true", help="print what the suite's step consists of")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    join(0, 1)
    pixels = torch.randn(options.batch, 3, options.image_size, options.image_size)
    labels = torch.arange(options.batch) % NUM_CLASSES
    flops = flops_of(model_of(options, None), pixels)
    arms = arms_of(options, pixels, labels)
    for arm in arms:
        arm.step()
    seconds: dict[str, list[float]] = {arm.name: [] for arm in arms}
    for _ in range(options.rounds):
        for arm in arms:
            started = time.perf_counter()
            for _ in range(options.steps):
                arm.step()
            seconds[arm.name].append((time.perf_counter() - started) / options.steps)
    rates = {dtype: rate_of_products(dtype) for dtype in (torch.float32, torch.bfloat16)}
    show(options, arms, seconds, flops, rates)
    if options.profile:
        show_operations(arms[-1])
    leave()
    return 0


def show(
    options: argparse.Namespace,
    arms: list[Arm],
    seconds: dict[str, list[float]],
    flops: int,
    rates: dict[torch.dtype, float],
) -> None:
    shares = ", ".join(f"{str(dtype).removeprefix('torch.')} {rate / 1e9:.0f} GFLOP/s" for dtype, rate in rates.items())
    work = f"{options.backbone} at {options.image_size} px, batch {options.batch}, {options.threads} threads"
    sys.stdout.write(f"{work}; {flops / 1e9:.2f} GFLOP an image; matrix products: {shares}\n\n")
    sys.stdout.write("| way | images/s | ratio (least – most) | share of the rate |\n|---|---:|---:|---:|\n")
    last = seconds[arms[-1].name]
    for arm in arms:
        own = statistics.median(seconds[arm.name])
        ratios = sorted(mine / suite for mine, suite in zip(seconds[arm.name], last, strict=True))
        share = 100 * flops * options.batch / own / rates[arm.dtype]
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} – {ratios[-1]:.2f})"
        sys.stdout.write(f"| {arm.name} | {options.batch / own:.0f} | {spread} | {share:.0f} % |\n")


def show_operations(arm: Arm, num_operations: int = 12) -> None:
    """Print the operations of one step that take most processor time, with their shares."""
    with profile() as watched:
        arm.step()
    rows = sorted(watched.key_averages(), key=lambda row: -row.self_cpu_time_total)
    whole = sum(row.self_cpu_time_total for row in rows)
    sys.stdout.write(f"\n| operation of {arm.name} | share |\n|---|---:|\n")
    for row in rows[:num_operations]:
        sys.stdout.write(f"| {row.key} | {100 * row.self_cpu_time_total / whole:.0f} % |\n")


if __name__ == "__main__":
    sys.exit(main())
