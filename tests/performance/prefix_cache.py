"""What keeping the frozen part's outputs saves: whole trials with it and without it, in one run, in turn.

    python -m tests.performance.prefix_cache                 # digits on vit_nano: head only, and late placements
    python -m tests.performance.prefix_cache --trials 12 --epochs 10 --rounds 3

Each round runs the same trials, of one method and as many seeds, once with the outputs kept (computed anew in each
round) and once without, in one process, one thread. The ratio is that of the seconds in training and evaluation steps.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from typing import Any

from benchmark.launch_plan import DEFAULT_PREFIX_CACHE_BYTES, ComputeOptions, plan_launch
from benchmark.request import resolve_trial
from benchmark.standalone import run_trial
from benchmark.training.prefix import CACHE

WORKLOADS: dict[str, Any] = {
    "head_only": "head_only",
    "adaptertune r8 last:1": {"name": "adaptertune", "rank": 8, "placement": "last:1"},
    "adaptertune r8 last:2": {"name": "adaptertune", "rank": 8, "placement": "last:2"},
    "adaptertune r8 all": {"name": "adaptertune", "rank": 8},
}


def seconds_of(method: Any, budget: int, options: argparse.Namespace) -> float:
    """Return the seconds that the trials spend in training and evaluation steps."""
    CACHE.clear()
    total = 0.0
    for seed in range(options.trials):
        training = {"epochs": options.epochs, "warmup_epochs": 1, "global_batch_images": 64}
        request = {"backbone": "vit_nano", "dataset": "digits", "method": method, "seed": seed, "training": training}
        cost = run_trial(
            resolve_trial(request), plan_launch(64, compute=ComputeOptions(prefix_cache_bytes=budget))
        ).result.cost
        assert cost is not None
        total += cost.train_seconds + cost.evaluation_seconds
    return total


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=3, help="seeds of each method (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=5, help="of each trial (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is timed (default: %(default)s)")
    options = parser.parse_args()
    seconds_of("head_only", 0, argparse.Namespace(trials=1, epochs=2))
    sys.stdout.write(f"{'':24}{'pixels, s':>12}{'kept, s':>12}{'ratio':>8}   least to most\n")
    for name, method in WORKLOADS.items():
        rounds = [
            (seconds_of(method, 0, options), seconds_of(method, DEFAULT_PREFIX_CACHE_BYTES, options))
            for _ in range(options.rounds)
        ]
        ratios = sorted(plain / kept for plain, kept in rounds)
        plain, kept = (statistics.median(column) for column in zip(*rounds, strict=True))
        spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
        sys.stdout.write(f"{name:24}{plain:12.2f}{kept:12.2f}{statistics.median(ratios):8.2f}   {spread}\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
