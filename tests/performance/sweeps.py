"""Whole sweeps over one frozen backbone: the reference protocol, a tuned plain loop, and this suite, in turn.

    make bench                                # digits on vit_nano; then ViT-Ti/16, where its data are: many hours
    python -m tests.performance.sweeps --backbone vit_nano
    python -m tests.performance.sweeps --backbone vit_tiny --image-size 96 --only "every block"

(a) `plain_trial.py`: fp32, PIL images in a DataLoader, one process a trial, one after the other.
(b) `tuned_loop.py`: decoded images, batches on tensors, all trials in one process.
(c) `adaptertune run` with its own Ray cluster, two slots of one core, and nothing cached of images or weights.

Each round runs all three on the same trials; a round's ratio is between the seconds of two whole commands. Before each,
the same program runs a small trial, untimed: some machines drop from memory what was not read for some minutes, and
with it the libraries of the arm whose turn comes last. Seconds in training and in evaluation are apart; for (c) they
are the sum over trials divided by the slots. ViT-Ti/16, at 96 and at 224 pixels, needs `ADAPTERTUNE_REAL_DATA`: its
weights, and its CIFAR-10 images; (b) and (c) train it in bf16. The table is the standard output; each round's seconds
go to the standard error as they come.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmark.cache_folder import ROOT_VARIABLE, cache_root
from benchmark.methods.parts.placement import blocks_of
from benchmark.tracking.empty_database import KIND as TRACKING
from benchmark.tracking.empty_database import copy_empty_database
from tests.performance.material import (
    BATCH_IMAGES,
    TRAINING,
    VIT_NANO,
    Backbone,
    output_of,
    vit_tiny,
    write_images,
)
from tuning.ledger import Ledger

NUM_CORES = 2
NUM_TRAIN, NUM_VALIDATION = 1024, 256
TINY_SIZES = (96, 224)
ARMS = ("(a) reference", "(b) tuned loop", "(c) suite")


@dataclass(frozen=True)
class Setting:
    """What all workloads run on: a label for the table, the backbone, and the precision of (b) and (c)."""

    label: str
    backbone: Backbone
    precision: str


@dataclass(frozen=True)
class Workload:
    """One sweep: every rank in every placement with every seed; without placements the head alone."""

    name: str
    ranks: tuple[int, ...]
    placements: tuple[str, ...]
    num_seeds: int
    epochs: int
    flip: bool

    def trials(self, depth: int) -> list[dict[str, Any]]:
        adapted = [blocks_of(placement, depth) for placement in self.placements] or [[]]
        return [
            {"rank": rank, "adapted": list(blocks), "seed": seed}
            for seed in range(self.num_seeds)
            for blocks in adapted
            for rank in self.ranks
        ]

    def method(self) -> Any:
        if not self.placements:
            return "head_only"
        return {"name": "adaptertune", "rank": list(self.ranks), "placement": list(self.placements)}


@dataclass(frozen=True)
class Seconds:
    """What an arm took: the whole command, and its parts in training and evaluation."""

    whole: float
    train: float
    evaluation: float
    top1: float


Round = tuple[Seconds, Seconds, Seconds]
"""What the three arms took, in their order."""


def workloads(depth: int, epochs: int) -> list[Workload]:
    ranks, third = (8, 16, 32, 64), depth // 3
    return [
        Workload("4 ranks, every block", ranks, ("all",), 1, epochs, True),
        Workload("4 ranks x 3 seeds", ranks, ("all",), 3, epochs, True),
        Workload("rank 16 x 8 seeds", (16,), ("all",), 8, epochs, True),
        Workload("4 placements", (16,), ("all", "every:2", f"first:{third}", f"last:{third}"), 1, epochs, True),
        Workload("4 ranks, last third", ranks, (f"last:{third}",), 1, epochs, True),
        Workload("4 ranks, last third, no augmentation", ranks, (f"last:{third}",), 1, epochs, False),
        Workload("head only x 12, no augmentation", (1,), (), 12, 5 * epochs, False),
    ]


def settings_of(options: argparse.Namespace) -> list[Setting]:
    """Return what is asked for and here, and say what is not."""
    settings = [Setting("digits", VIT_NANO, options.precision or "fp32")]
    if options.backbone != VIT_NANO.name:
        for size in options.image_size or TINY_SIZES:
            backbone = vit_tiny(size)
            if backbone is None:
                break
            settings.append(Setting(f"{size} px", backbone, options.precision or "bf16"))
    return [one for one in settings if one.backbone.name.startswith(options.backbone)]


def run_plain(program: str, work: Path, *arguments: str) -> tuple[float, dict[str, float]]:
    started = time.perf_counter()
    output = output_of("-m", f"tests.performance.{program}", str(work), *arguments)
    return time.perf_counter() - started, json.loads(output)


def reference(work: Path) -> Seconds:
    trials = json.loads(work.read_text(encoding="utf-8"))["trials"]
    runs = [run_plain("plain_trial", work, str(index)) for index in range(len(trials))]
    parts = {key: sum(run[key] for _, run in runs) for key in ("train", "evaluation", "top1")}
    return Seconds(sum(whole for whole, _ in runs), parts["train"], parts["evaluation"], parts["top1"] / len(runs))


def tuned(work: Path) -> Seconds:
    whole, run = run_plain("tuned_loop", work)
    return Seconds(whole, run["train"], run["evaluation"], run["top1"])


def suite(study: Path) -> Seconds:
    """Run the study with nothing cached of images or weights; MLflow's empty tables stay, made once an installation."""
    output = study.parent / "output"
    computed = [kind for kind in cache_root().iterdir() if kind.name != TRACKING]
    for folder in (output, *computed):
        shutil.rmtree(folder, ignore_errors=True)
    started = time.perf_counter()
    told = output_of("-m", "tuning", "run", str(study), "--output", str(output), "--json")
    whole = time.perf_counter() - started
    ledger = Ledger(output)
    results = [ledger.result(trial_id) for trial_id in json.loads(told)["statuses"]]
    ledger.close()
    costs = [result.cost for result in results if result and result.cost]
    top1 = [result.validation.top1 for result in results if result and result.validation]
    train, evaluation = (sum(getattr(cost, f"{part}_seconds") for cost in costs) for part in ("train", "evaluation"))
    return Seconds(whole, train / NUM_CORES, evaluation / NUM_CORES, sum(top1) / len(top1))


@dataclass(frozen=True)
class Commands:
    """One sweep as the arms are given it.

    Attributes:
        work: The plain arms'.
        study: The suite's.
    """

    work: Path
    study: Path

    def run_after(self, small: Commands) -> Round:
        """Run the three arms, each after a small sweep of its own."""
        reference(small.work)
        of_reference = reference(self.work)
        tuned(small.work)
        of_tuned = tuned(self.work)
        suite(small.study)
        return of_reference, of_tuned, suite(self.study)


def prepare(folder: Path, workload: Workload, backbone: Backbone, num_classes: int, precision: str) -> Commands:
    """Write what the plain arms and the suite are to run."""
    work = {
        "shape": backbone.shape,
        "weights": str(backbone.weights),
        "images": str(folder / "images"),
        "num_classes": num_classes,
        "trials": workload.trials(backbone.shape["depth"]),
        "epochs": workload.epochs,
        "flip": workload.flip,
        "batch_images": BATCH_IMAGES,
        "precision": precision,
        "num_threads": NUM_CORES,
    }
    study = {
        "name": "sweep",
        "backbone": backbone.request(),
        "dataset": f"image_folder:{folder / 'images'}",
        "method": workload.method(),
        "seed": list(range(workload.num_seeds)),
        "protocol": {"name": "fair", "augmentation": "flip" if workload.flip else "none"},
        "training": {
            **TRAINING,
            "epochs": workload.epochs,
            "global_batch_images": BATCH_IMAGES,
            "precision": precision,
        },
    }
    paths = Commands(folder / "work.json", folder / "sweep.yaml")
    paths.work.write_text(json.dumps(work), encoding="utf-8")
    paths.study.write_text(yaml.safe_dump(study), encoding="utf-8")
    return paths


def prepare_small(folder: Path, precision: str) -> Commands:
    """Write a sweep of one short trial, on digits."""
    num_classes = write_images(folder / "images", VIT_NANO, 2 * BATCH_IMAGES, BATCH_IMAGES)
    return prepare(folder, Workload("small", (8,), ("all",), 1, 1, False), VIT_NANO, num_classes, precision)


def show(name: str, rounds: list[Round], num_images: int) -> None:
    for index, arm in enumerate(ARMS):
        runs = [one[index] for one in rounds]
        whole, train, evaluation, top1 = (
            statistics.median(getattr(run, part) for run in runs) for part in ("whole", "train", "evaluation", "top1")
        )
        rest = whole - train - evaluation
        ratios = sorted(one[index].whole / one[2].whole for one in rounds)
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f})"
        steady = statistics.median(one[index].train / one[2].train for one in rounds)
        sys.stdout.write(
            f"| {name} | {arm} | {whole:.1f} | {rest:.1f} | {train:.1f} | {evaluation:.1f} | {num_images / train:.0f} "
            f"| {spread} | {steady:.2f} | {100 * top1:.1f} |\n"
        )
    sys.stdout.flush()


def run_rounds(name: str, commands: Commands, small: Commands, num_rounds: int) -> list[Round]:
    """Run the arms of one workload in turn, and tell of each round."""
    rounds = []
    for number in range(1, num_rounds + 1):
        rounds.append(commands.run_after(small))
        seconds = ", ".join(f"{arm} {one.whole:.1f} s" for arm, one in zip(ARMS, rounds[-1], strict=True))
        sys.stderr.write(f"{name}, round {number}: {seconds}\n")
    return rounds


def run_setting(folder: Path, setting: Setting, options: argparse.Namespace) -> None:
    """Run all wanted workloads of a setting, and print their rows as they come."""
    os.environ[ROOT_VARIABLE] = str(folder / "cache")
    copy_empty_database(folder / "empty.db")
    small = prepare_small(folder / "small", setting.precision)
    num_classes = write_images(folder / "images", setting.backbone, NUM_TRAIN, NUM_VALIDATION)
    depth = setting.backbone.shape["depth"]
    for workload in workloads(depth, options.epochs):
        if options.only in workload.name:
            name = f"{setting.label}, {workload.name}"
            commands = prepare(folder, workload, setting.backbone, num_classes, setting.precision)
            rounds = run_rounds(name, commands, small, options.rounds)
            show(name, rounds, len(workload.trials(depth)) * workload.epochs * NUM_TRAIN)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", choices=["vit_nano", "vit_tiny"], default="", help="(default: all that are here)")
    parser.add_argument("--image-size", type=int, nargs="+", help="of vit_tiny (default: 96 and 224)")
    parser.add_argument("--epochs", type=int, default=2, help="of each trial; head only: five times as many")
    parser.add_argument("--precision", choices=["fp32", "bf16"], help="of (b) and (c)")
    parser.add_argument("--rounds", type=int, default=3, help="how often all three run (default: %(default)s)")
    parser.add_argument("--only", default="", help="workloads whose name contains this")
    options = parser.parse_args()
    if options.image_size and options.backbone != "vit_tiny":
        parser.error("--image-size is vit_tiny's: add --backbone vit_tiny")
    settings = settings_of(options)
    if not settings or not any(options.only in one.name for one in workloads(VIT_NANO.shape["depth"], 1)):
        parser.error("no such sweep: see --backbone, --image-size and --only")
    sys.stdout.write(
        "| sweep | arm | whole, s | of it start, s | training, s | evaluation, s | training images/s "
        "| whole: times (c) | training: times (c) | validation, % |\n|---|---|" + "---:|" * 8 + "\n"
    )
    for setting in settings:
        with tempfile.TemporaryDirectory(prefix="sweeps-") as temporary:
            run_setting(Path(temporary), setting, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
