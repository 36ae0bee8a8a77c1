"""One trial on one and on two workers of a core each, in turn: how much sooner its training and evaluation are done.

    python -m tests.performance.workers                                    # digits on vit_nano
    python -m tests.performance.workers --backbone vit_tiny --image-size 96 --precision bf16

AdapterTune at rank 16 in every block, the same global batch; `torchrun` starts the ranks as a user would. The largest
difference of an epoch's training loss says that both did the same work.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmark.result import TrialResult
from tests.performance.sweeps import BATCH_IMAGES, REPOSITORY, TRAINING, Backbone, backbone_of, write_images

WORKERS = (1, 2)


@dataclass(frozen=True)
class Run:
    """Seconds of a trial, and its epochs' training losses."""

    train: float
    evaluation: float
    losses: list[float]


def trial_file(folder: Path, backbone: Backbone, options: argparse.Namespace, num_workers: int) -> Path:
    weights = {} if backbone.name == "vit_nano" else {"weights": str(backbone.weights)}
    trial = {
        "backbone": {"name": backbone.name, "image_size": backbone.shape["img_size"], **weights},
        "dataset": f"image_folder:{folder / 'images'}",
        "method": {"name": "adaptertune", "rank": 16},
        "protocol": {"name": "fair", "augmentation": "flip"},
        "training": {
            **TRAINING,
            "epochs": options.epochs,
            "global_batch_images": BATCH_IMAGES,
            "precision": options.precision,
        },
        "launch": {"num_workers": num_workers},
    }
    path = folder / f"trial-{num_workers}.yaml"
    path.write_text(yaml.safe_dump(trial), encoding="utf-8")
    return path


def run(trial: Path, num_workers: int) -> Run:
    output = trial.with_suffix("")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(num_workers)]
    command += ["-m", "benchmark", str(trial), "--output-dir", str(output)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=REPOSITORY, env=environment, check=True, capture_output=True)
    result = TrialResult.model_validate(json.loads((output / "result.json").read_text(encoding="utf-8")))
    assert result.cost is not None
    losses = [record.train_loss for record in result.epochs if record.train_loss is not None]
    return Run(result.cost.train_seconds, result.cost.evaluation_seconds, losses)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", choices=["vit_nano", "vit_tiny"], default="vit_nano")
    parser.add_argument("--image-size", type=int, default=96, help="of vit_tiny (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    backbone = backbone_of(options)
    with tempfile.TemporaryDirectory(prefix="workers-") as temporary:
        folder = Path(temporary)
        write_images(folder / "images", backbone, 1024, 256)
        trials = {number: trial_file(folder, backbone, options, number) for number in WORKERS}
        runs = [{number: run(trial, number) for number, trial in trials.items()} for _ in range(options.rounds)]
    sys.stdout.write(
        "| workers | training, s | evaluation, s | training: times as fast as one |\n|---:|---:|---:|---:|\n"
    )
    for number in WORKERS:
        ratios = sorted(one[1].train / one[number].train for one in runs)
        train, evaluation = (
            statistics.median(getattr(one[number], part) for one in runs) for part in ("train", "evaluation")
        )
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} – {ratios[-1]:.2f})"
        sys.stdout.write(f"| {number} | {train:.1f} | {evaluation:.1f} | {spread} |\n")
    apart = max(abs(a - b) for one in runs for a, b in zip(one[1].losses, one[2].losses, strict=True))
    sys.stdout.write(f"\nlargest difference of an epoch's training loss: {apart:.1e}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
