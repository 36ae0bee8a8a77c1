"""How the time of a trial falls as more trials share one backbone: 1 to 64 of them, in packs as `run` makes them.

    python -m tests.performance.growth                                    # digits on vit_nano
    python -m tests.performance.growth --backbone vit_tiny --image-size 96 --precision bf16

AdapterTune in the last two blocks, one learning rate after the other under one seed, mirrored images: one process, one
thread, processor seconds of whole trials, start and evaluation included.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import torch

from benchmark.request import resolve_trial
from benchmark.spec import TrialSpec
from benchmark.training.process_group import join, leave
from tests.performance.packs import BATCH_IMAGES, NUM_IMAGES, seconds_of
from tests.performance.sweeps import Backbone, backbone_of, write_images
from tuning.packing import DEFAULT_TRIALS_PER_PACK

COUNTS = (1, 2, 4, 8, 16, 32, 64)


def trials(backbone: Backbone, images: Path, options: argparse.Namespace, num_trials: int) -> list[TrialSpec]:
    weights = {} if backbone.name == "vit_nano" else {"weights": str(backbone.weights)}
    training = {"epochs": options.epochs, "warmup_epochs": 0, "global_batch_images": BATCH_IMAGES}
    request = {
        "backbone": {"name": backbone.name, "image_size": backbone.shape["img_size"], **weights},
        "dataset": f"image_folder:{images}",
        "method": {"name": "adaptertune", "rank": 8, "placement": "last:2"},
        "protocol": {"name": "fair", "augmentation": "flip"},
    }
    rates = [1e-3 * (1 + index / 100) for index in range(num_trials)]
    shared = {**training, "precision": options.precision}
    return [resolve_trial({**request, "training": {**shared, "learning_rate": rate}}) for rate in rates]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", choices=["vit_nano", "vit_tiny"], default="vit_nano")
    parser.add_argument("--image-size", type=int, default=96, help="of vit_tiny (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=1, help="of each trial (default: %(default)s)")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--most", type=int, choices=COUNTS, default=COUNTS[-1], help="trials (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    join(0, 1)
    backbone = backbone_of(options)
    sys.stdout.write(
        "| trials | seconds | seconds a trial | as many times as fast as one alone |\n|---:|---:|---:|---:|\n"
    )
    with tempfile.TemporaryDirectory(prefix="growth-") as folder:
        images = Path(folder) / "images"
        write_images(images, backbone, *NUM_IMAGES)
        seconds_of([trials(backbone, images, options, 1)])  # what is read and computed once a process
        alone = None
        for count in (one for one in COUNTS if one <= options.most):
            specs = trials(backbone, images, options, count)
            size = DEFAULT_TRIALS_PER_PACK
            seconds, _ = seconds_of([specs[start : start + size] for start in range(0, count, size)])
            alone = alone or seconds
            sys.stdout.write(f"| {count} | {seconds:.1f} | {seconds / count:.2f} | {alone * count / seconds:.2f} |\n")
            sys.stdout.flush()
    leave()
    return 0


if __name__ == "__main__":
    sys.exit(main())
