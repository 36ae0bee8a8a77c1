"""Whether a CPU should stack the tokens of trials in one pass: training steps of a pack, stacked and apart, in turn.

    python -m tests.performance.stacking --image-size 224
    python -m tests.performance.stacking --image-size 96 --trials 4

AdapterTune at rank 16 in every block of ViT-Ti/16 under bf16, batch 64, one thread, random weights, one batch in
memory; `alone` takes the same steps one trial after the other. As a study's ranks do, it allocates in huge pages.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time

import torch
from torch import nn

from benchmark.launch_plan import plan_launch
from benchmark.training import packed_model
from benchmark.training.engine import ParameterGroup, TrainingEngine
from benchmark.training.packed_model import PackedClassifier, share_frozen
from benchmark.training.process_group import join, leave
from launch.allocation import allocation_environment
from tests.performance.steady_state import CLIP_NORM, LEARNING_RATE, NUM_CLASSES, model_of

NEVER, ALWAYS = 2**62, 1


class Steps:
    """Training steps of a pack of equal trials."""

    def __init__(self, options: argparse.Namespace, num_trials: int) -> None:
        self.inputs = [torch.randn(options.batch, 3, options.image_size, options.image_size)] * num_trials
        self.labels = torch.arange(options.batch) % NUM_CLASSES
        models = [model_of(options, torch.bfloat16) for _ in range(num_trials)]
        for other in models[1:]:
            share_frozen(models[0], other)
        groups = [ParameterGroup(list(model.trainable().values()), 0.0, CLIP_NORM) for model in models]
        self.engine = TrainingEngine(PackedClassifier(models), groups, "bf16", plan_launch(options.batch))

    def seconds(self, least_apart_values: int) -> float:
        packed_model.LEAST_APART_VALUES = least_apart_values
        started = time.perf_counter()
        losses = [nn.functional.cross_entropy(logits.float(), self.labels) for logits in self.engine(self.inputs)]
        self.engine.accumulate(torch.stack(losses).sum())
        self.engine.step([LEARNING_RATE] * len(losses))
        return time.perf_counter() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--trials", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    options.backbone = "vit_tiny"
    environment = allocation_environment()
    if not environment.items() <= os.environ.items():  # read when a process starts
        command = [sys.executable, "-m", "tests.performance.stacking", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, **environment})
    torch.set_num_threads(1)
    join(0, 1)
    pack, one = Steps(options, options.trials), Steps(options, 1)
    seconds: dict[str, list[float]] = {"alone": [], "stacked": [], "apart": []}
    for _ in range(options.rounds + 1):  # the first warms up
        seconds["alone"].append(options.trials * one.seconds(NEVER))
        seconds["stacked"].append(pack.seconds(NEVER))
        seconds["apart"].append(pack.seconds(ALWAYS))
    sys.stdout.write(f"{options.trials} trials at {options.image_size} px\n\n| way | images/s |\n|---|---:|\n")
    for way, own in seconds.items():
        sys.stdout.write(f"| {way} | {options.trials * options.batch / statistics.median(own[1:]):.0f} |\n")
    leave()
    return 0


if __name__ == "__main__":
    sys.exit(main())
