"""Trials on one GPU: the reference protocol, a tuned plain loop and this suite; packs beside their trials alone.

    python -m tests.performance.on_gpu                           # both tables
    python -m tests.performance.on_gpu --table trials --only large --compile
    python -m tests.performance.on_gpu --profile vit_small       # what a pack's step consists of

224 pixels, random weights, AdapterTune at rank 16 in every block, handwritten digits as PNG files of 32 pixels that are
mirrored at random. (a) is fp32 with PIL images in a `DataLoader` of eight workers; (b) is bf16 autocast with images
decoded once and kept on the GPU; (c) is the suite's own trial, input included. A row gives the median of the epochs
after the first, whose kernels and graphs are made; the share is that of this GPU's own rate of bf16 matrix products.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.profiler import ProfilerActivity, profile

from benchmark.launch_plan import ComputeOptions, plan_launch
from benchmark.request import resolve_trial
from benchmark.spec import TrialSpec
from benchmark.training.operations import OperationCounter
from benchmark.training.process_group import join, leave
from benchmark.training.trial import EpochReport, pack_steps
from tests.performance.plain_model import build, optimizer_of, step
from tests.performance.plain_trial import loader
from tests.performance.steady_state import SHAPES
from tests.performance.tuned_loop import decoded, normalised

NAMES = {
    "vit_small": "vit_small_patch16_224.augreg_in21k",
    "vit_base": "vit_base_patch16_224.augreg_in21k",
    "vit_large": "vit_large_patch16_224.augreg_in21k",
    "vit_huge": "vit_huge_patch14_224.orig_in21k",
}
NUM_CLASSES, RANK, SIDE_PIXELS = 10, 16, 224
BATCH_IMAGES, NUM_TRAIN, NUM_VALIDATION = 128, 1024, 128
NUM_PACK_TRAIN = 256
PACK_RANKS, PACK_SEEDS = (8, 16, 32, 64), (0, 1)
NUM_EPOCHS, NUM_REFERENCE_EPOCHS = 4, 2


def write_images(folder: Path, num_train: int) -> None:
    """Write digits of 32 pixels, one folder a class."""
    digits = load_digits()
    # The first of each class, then the second: every stretch of ten or more has nearly all classes in it.
    order = np.argsort([np.sum(digits.target[:row] == label) for row, label in enumerate(digits.target)], kind="stable")
    ends = [("train", num_train), ("val", num_train + NUM_VALIDATION), ("test", num_train + NUM_VALIDATION + 64)]
    for number, row in enumerate(order[: ends[-1][1]]):
        split = next(name for name, end in ends if number < end)
        path = folder / split / str(digits.target[row]) / f"{row:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray((digits.images[row] * 255 / 16).astype(np.uint8)).convert("RGB")
        image.resize((32, 32)).save(path)


def write_weights(path: Path, size: str) -> None:
    """Write random weights, the same for every seed, so that trials of several seeds share them."""
    torch.manual_seed(0)
    save_file(VisionTransformer(**shape_of(size), num_classes=0).state_dict(), path)


def shape_of(size: str) -> dict[str, Any]:
    return {**SHAPES[size], "img_size": SIDE_PIXELS}


def plain_model(size: str) -> nn.Module:
    shape = shape_of(size)
    return build(shape, None, NUM_CLASSES, RANK, range(shape["depth"])).cuda()


def epochs_of(epoch: Callable[[], None], num_epochs: int) -> float:
    """Return the median seconds of the epochs after the first."""
    seconds = []
    for _ in range(num_epochs):
        torch.cuda.synchronize()
        started = time.perf_counter()
        epoch()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


def reference_seconds(size: str, images: Path) -> float:
    model = plain_model(size)
    optimizer = optimizer_of(model)
    work = {"shape": shape_of(size), "flip": True, "batch_images": BATCH_IMAGES, "num_loaders": 8}
    batches = loader(images / "train", work, True)

    def epoch() -> None:
        for pixels, labels in batches:
            step(model, optimizer, pixels.cuda(), labels.cuda(), 0.5)

    return epochs_of(epoch, NUM_REFERENCE_EPOCHS)


def tuned_seconds(size: str, images: Path) -> float:
    model = plain_model(size)
    optimizer = optimizer_of(model)
    pixels, labels = (tensor.cuda() for tensor in decoded(images / "train", SIDE_PIXELS))

    def epoch() -> None:
        for rows in torch.randperm(len(pixels), device="cuda").split(BATCH_IMAGES):
            batch = normalised(pixels[rows])
            mirrored = torch.rand(len(rows), device="cuda") < 0.5
            batch = torch.where(mirrored.view(-1, 1, 1, 1), batch.flip(-1), batch)
            with torch.autocast("cuda", torch.bfloat16):
                step(model, optimizer, batch, labels[rows], 0.5)

    return epochs_of(epoch, NUM_EPOCHS)


def trial(size: str, images: Path, batch: int, rank: int = RANK, seed: int = 0, epochs: int = NUM_EPOCHS) -> TrialSpec:
    weights = images.parent / f"{size}.safetensors"
    training = {"epochs": epochs, "warmup_epochs": 0, "global_batch_images": batch, "precision": "bf16"}
    return resolve_trial(
        {
            "backbone": {"name": NAMES[size], "weights": str(weights) if weights.exists() else "random"},
            "dataset": f"image_folder:{images}",
            "method": {"name": "adaptertune", "rank": rank},
            "protocol": {"name": "fair", "augmentation": "flip"},
            "training": training,
            "seed": seed,
            "reads_test": False,
        }
    )


def suite_seconds(specs: Sequence[TrialSpec], **switches: Any) -> float:
    """Return the seconds that an epoch of these trials takes in one pass, all trials together."""
    plan = plan_launch(specs[0].training.global_batch_images, device="cuda", compute=ComputeOptions(**switches))
    seconds: dict[int, float] = {}
    for report in pack_steps(specs, plan, [None] * len(specs)):
        if isinstance(report.report, EpochReport):
            record = report.report.record
            seconds[record.epoch] = seconds.get(record.epoch, 0.0) + record.train_seconds
    return statistics.median(value for epoch, value in seconds.items() if epoch > 1)


def rate_of_products(size: int = 8192) -> float:
    """Return the operations a second of square bf16 matrix products on random values."""
    left, right = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    rates = []
    for _ in range(8):
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(4):
            left @ right
        torch.cuda.synchronize()
        rates.append(4 * 2 * size**3 / (time.perf_counter() - started))
    return statistics.median(rates)


def flops_of(size: str) -> int:
    model = plain_model(size)
    with OperationCounter() as counter:
        model(torch.zeros(1, 3, SIDE_PIXELS, SIDE_PIXELS, device="cuda")).sum().backward()
    return counter.flops


def free() -> None:
    gc.collect()
    torch.cuda.empty_cache()


def arms(size: str, images: Path, is_compiled: bool, suite_only: bool) -> Iterator[tuple[str, float]]:
    """Yield each arm's name and the seconds of an epoch."""
    if not suite_only:
        yield "(a) reference, fp32", reference_seconds(size, images)
        free()
        yield "(b) tuned loop, bf16", tuned_seconds(size, images)
        free()
    yield "(c) suite, bf16", suite_seconds([trial(size, images, BATCH_IMAGES)])
    free()
    if is_compiled:
        yield "(c) suite, bf16, compiled", suite_seconds([trial(size, images, BATCH_IMAGES)], compile_blocks=True)
        free()


def show_trials(options: argparse.Namespace, images: Path) -> None:
    rate = rate_of_products()
    say(f"{torch.cuda.get_device_name()}, torch {torch.__version__}; bf16 products: {rate / 1e12:.0f} TFLOP/s\n")
    say("| backbone, batch 128 | arm | images/s | share of the rate | peak, GB |\n|---|---|---:|---:|---:|")
    for size in ("vit_base", "vit_large", "vit_huge"):
        if options.only in size:
            flops = flops_of(size)
            for name, seconds in arms(size, images, options.compile, options.suite_only):
                speed, peak = NUM_TRAIN / seconds, torch.cuda.max_memory_allocated()
                torch.cuda.reset_peak_memory_stats()
                say(f"| {size} | {name} | {speed:.0f} | {100 * flops * speed / rate:.0f} % | {peak / 1e9:.1f} |")


def show_packs(options: argparse.Namespace, images: Path) -> None:
    say("\n| 8 trials | batch each | way | alone, images/s | one pass, images/s | ratio |")
    say("|---|---:|---|---:|---:|---:|")
    for size in (size for size in ("vit_small", "vit_base") if options.only in size):
        write_weights(images.parent / f"{size}.safetensors", size)
        for batch in options.batches:
            specs = [trial(size, images, batch, rank, seed, 3) for seed in PACK_SEEDS for rank in PACK_RANKS]
            alone = {}
            for graphs in (False, True):
                # The smallest and the largest rank stand for all eight.
                pair = [suite_seconds([spec], cuda_graphs=graphs) for spec in (specs[0], specs[3])]
                alone[graphs] = statistics.mean(pair) * len(specs)
                together = suite_seconds(specs, cuda_graphs=graphs)
                speeds = [len(specs) * NUM_PACK_TRAIN / seconds for seconds in (alone[graphs], together)]
                way = f"{speeds[0]:.0f} | {speeds[1]:.0f} | {alone[graphs] / together:.2f}"
                say(f"| {size} | {batch} | {'replayed' if graphs else 'launched'} | {way} |")
            say(f"| {size} | {batch} | launched alone, replayed in one pass | | | {alone[False] / together:.2f} |")
            free()


def show_profile(size: str, images: Path) -> None:
    """Print what the processor and the GPU do in one epoch of a pack, and of one trial."""
    write_weights(images.parent / f"{size}.safetensors", size)
    packs = {
        "8 trials of 16": [trial(size, images, 16, rank, seed, 2) for seed in PACK_SEEDS for rank in PACK_RANKS],
        "one trial of 16": [trial(size, images, 16, epochs=2)],
    }
    for name, specs in packs.items():
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as watched:
            suite_seconds(specs)
        for order in ("self_cpu_time_total", "self_cuda_time_total"):
            table = watched.key_averages().table(sort_by=order, row_limit=22, max_name_column_width=60)
            say(f"{size}, {name}\n{table}")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", choices=["trials", "packs", "both"], default="both")
    parser.add_argument("--only", default="", help="backbones whose name contains this")
    parser.add_argument("--compile", action="store_true", help="also with compiled blocks: a minute more a backbone")
    parser.add_argument("--suite-only", action="store_true", help="leave (a) and (b) out")
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 32], help="of a pack's trials")
    parser.add_argument("--profile", choices=NAMES, help="print what an epoch consists of instead")
    options = parser.parse_args()
    join(0, 1, device="cuda")
    with tempfile.TemporaryDirectory(prefix="on-gpu-") as folder:
        images = Path(folder) / "images"
        small = Path(folder) / "pack-images"
        write_images(images, NUM_TRAIN)
        write_images(small, NUM_PACK_TRAIN)
        if options.profile:
            show_profile(options.profile, small)
        else:
            if options.table != "packs":
                show_trials(options, images)
            if options.table != "trials":
                show_packs(options, small)
    leave()
    return 0


if __name__ == "__main__":
    sys.exit(main())
