"""What a pack saves: the same trials one after the other and in one pass, in one run, in turn.

    python -m tests.performance.packs                                    # digits on vit_nano
    python -m tests.performance.packs --backbone vit_tiny --image-size 96 --epochs 1

One process, one thread, the suite's own code in both: what differs is the pass alone. The ratio is that of processor
seconds of whole trials; `training` is that of the seconds in training steps. ViT-Ti/16 needs `ADAPTERTUNE_REAL_DATA`:
its weights, and 1,024 of its CIFAR-10 images for training, 256 for validation and 64 for testing.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmark.launch_plan import plan_launch
from benchmark.request import resolve_trial
from benchmark.result import Cost, TrialOutcome
from benchmark.spec import TrialSpec
from benchmark.training.process_group import join, leave
from benchmark.training.trial import pack_steps
from tests.performance.material import BATCH_IMAGES, Backbone, find_backbone, write_images

NUM_IMAGES = (1024, 256)
RANKS = (8, 16, 32, 64)


def sweeps(depth: int) -> dict[str, tuple[Any, int, str]]:
    """Return method, number of seeds and augmentation of each sweep."""
    placements = {"every block": "all", "last third": f"last:{depth // 3}", "last two blocks": "last:2"}
    adapters = {
        f"4 ranks, {name}": ([{"name": "adaptertune", "rank": rank, "placement": where} for rank in RANKS], 1, "flip")
        for name, where in placements.items()
    }
    return {**adapters, "head only x 8 seeds, no augmentation": (["head_only"], 8, "none")}


def specs_of(
    backbone: Backbone, images: Path, sweep: tuple[Any, int, str], options: argparse.Namespace
) -> list[TrialSpec]:
    """Return the trials of a sweep."""
    methods, num_seeds, augmentation = sweep
    training = {"epochs": options.epochs, "warmup_epochs": 0, "global_batch_images": BATCH_IMAGES}
    request = {
        "backbone": backbone.request(),
        "dataset": f"image_folder:{images}",
        "protocol": {"name": "fair", "augmentation": augmentation},
        "training": {**training, "precision": options.precision},
    }
    pairs = [(method, seed) for seed in range(num_seeds) for method in methods]
    return [resolve_trial({**request, "method": method, "seed": seed}) for method, seed in pairs]


def costs_of(packs: Iterable[Sequence[TrialSpec]], num_workers: int = 1) -> Iterator[Cost]:
    """Run packs, one after the other, and yield what each trial cost."""
    for specs in packs:
        plan = plan_launch(specs[0].training.global_batch_images, num_workers)
        for step in pack_steps(specs, plan, [None] * len(specs)):
            if isinstance(step.report, TrialOutcome):
                assert step.report.result.cost is not None
                yield step.report.result.cost


def seconds_of(packs: list[list[TrialSpec]]) -> tuple[float, float]:
    """Return the processor seconds of the trials, and those in training steps."""
    started = time.process_time()
    trained = sum(cost.train_seconds for cost in costs_of(packs))
    return time.process_time() - started, trained


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", choices=["vit_nano", "vit_tiny"], default="vit_nano")
    parser.add_argument("--image-size", type=int, default=96, help="of vit_tiny (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=2, help="of each trial (default: %(default)s)")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is timed (default: %(default)s)")
    parser.add_argument("--only", default="", help="sweeps whose name contains this")
    options = parser.parse_args()
    torch.set_num_threads(1)
    join(0, 1)
    backbone = find_backbone(options.backbone, options.image_size)
    sys.stdout.write("| sweep | alone, s | packed, s | ratio (least – most) | training |\n|---|" + "---:|" * 4 + "\n")
    with tempfile.TemporaryDirectory(prefix="packs-") as folder:
        images = Path(folder) / "images"
        write_images(images, backbone, *NUM_IMAGES)
        for name, sweep in sweeps(backbone.shape["depth"]).items():
            if options.only in name:
                specs = specs_of(backbone, images, sweep, options)
                seconds_of([specs[:1]])  # what is read and computed once a process is there for both
                show(name, [(seconds_of([[s] for s in specs]), seconds_of([specs])) for _ in range(options.rounds)])
    leave()
    return 0


def show(name: str, rounds: list[tuple[tuple[float, float], tuple[float, float]]]) -> None:
    alone, packed = (statistics.median(one[arm][0] for one in rounds) for arm in (0, 1))
    ratios = sorted(one[0][0] / one[1][0] for one in rounds)
    training = statistics.median(one[0][1] / one[1][1] for one in rounds)
    spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} – {ratios[-1]:.2f})"
    sys.stdout.write(f"| {name} | {alone:.1f} | {packed:.1f} | {spread} | {training:.2f} |\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
