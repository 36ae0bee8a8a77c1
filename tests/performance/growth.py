"""How speed, cost beside it, memory and the share of the machine's rate grow: with trials, with workers, with depth.

    python -m tests.performance.growth                     # all, three rounds: half an hour
    python -m tests.performance.growth --only workers

Real trials on digits at 96 pixels, in bf16; random weights, since no time depends on them:
- 1 to 64 trials of ViT-Ti/16 in packs as `run` makes them: AdapterTune in the last two blocks, one learning rate each;
- one trial, rank 16 in every block, on one worker of a core and on two (`torchrun`), with the same global batch;
- the same on one worker from ViT-Ti to ViT-L, at batch 32.

Each row is a process of its own, which runs one trial before, untimed. `beside` is what a trial takes beside training
and evaluation; memory is the largest resident size of a rank, with all that it imports; the share is that of the
measured rate of matrix products in the same type on as many cores. No share where most operations' results are read
from what was kept (trials). `times` is images a second divided by those of the first row of its kind in that round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.cache_folder import ROOT_VARIABLE
from tests.performance.material import BATCH_IMAGES, TRAINING, VIT_NANO, output_of, write_images
from tuning.packing import DEFAULT_TRIALS_PER_PACK

COUNTS = (1, 2, 4, 8, 16, 32, 64)
WORKERS = (1, 2)
SIZES = ("tiny", "small", "base", "large")
NUM_TRAIN, NUM_VALIDATION = 1024, 256
FEW_TRAIN, FEW_VALIDATION, FEW_BATCH_IMAGES = 256, 64, 32
"""What ViT-L trains on within a minute."""

DTYPES = {"bf16": "bfloat16", "fp32": "float32"}


@dataclass(frozen=True)
class Row:
    """A row's kind and label, its trials, and how they run."""

    kind: str
    label: str
    trials: list[dict[str, Any]]
    num_train: int
    num_workers: int = 1

    @property
    def num_images(self) -> int:
        return sum(trial["training"]["epochs"] for trial in self.trials) * self.num_train


def trial(
    images: Path, options: argparse.Namespace, size: str, method: dict[str, Any], **training: Any
) -> dict[str, Any]:
    return {
        "backbone": {
            "name": f"vit_{size}_patch16_224.augreg_in21k",
            "image_size": options.image_size,
            "weights": "random",
        },
        "dataset": f"image_folder:{images}",
        "method": {"name": "adaptertune", **method},
        "protocol": {"name": "fair", "augmentation": "flip"},
        "training": {
            **TRAINING,
            "epochs": 1,
            "global_batch_images": BATCH_IMAGES,
            "precision": options.precision,
            **training,
        },
    }


def rows_of(folder: Path, options: argparse.Namespace) -> list[Row]:
    many, few = folder / "many", folder / "few"
    last_two, every = {"rank": 8, "placement": "last:2"}, {"rank": 16}
    rates = [1e-3 * (1 + index / 100) for index in range(options.most)]
    packed = [trial(many, options, "tiny", last_two, learning_rate=rate) for rate in rates]
    alone = trial(many, options, "tiny", every, epochs=2)
    return [
        *(Row("trials", str(count), packed[:count], NUM_TRAIN) for count in COUNTS if count <= options.most),
        *(Row("workers", str(number), [alone], NUM_TRAIN, number) for number in WORKERS),
        *(
            Row("depth", size, [trial(few, options, size, every, global_batch_images=FEW_BATCH_IMAGES)], FEW_TRAIN)
            for size in SIZES
        ),
    ]


def measured(row: Row, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    work = folder / "work.json"
    document = {
        "trials": row.trials,
        "per_pack": DEFAULT_TRIALS_PER_PACK,
        "dtype": DTYPES[options.precision],
    }
    work.write_text(json.dumps(document), encoding="utf-8")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(row.num_workers)]
    program = ["-m", "tests.performance.growth_row", str(work)]
    told = output_of(
        *(torchrun if row.num_workers > 1 else []),
        *program,
        OMP_NUM_THREADS="1",
        **{ROOT_VARIABLE: str(folder / "cache")},
    )
    return json.loads(told.splitlines()[-1])


def show(row: Row, rounds: list[dict[str, float]], first: list[dict[str, float]], num_first: int) -> None:
    speeds = [row.num_images / one["train"] for one in rounds]
    ratios = sorted(speed / (num_first / one["train"]) for speed, one in zip(speeds, first, strict=True))
    batch = row.trials[0]["training"]["global_batch_images"]
    speed = statistics.median(speeds)
    rest, memory = (statistics.median(one[part] for one in rounds) for part in ("rest", "memory"))
    share = statistics.median(speed * one["flops"] / one["rate"] for speed, one in zip(speeds, rounds, strict=True))
    spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} – {ratios[-1]:.2f})"
    sys.stdout.write(
        f"| {row.kind} | {row.label} | {speed:.0f} | {speed / batch:.1f} | {spread} | {rest:.2f} | {memory / 1e6:.0f} "
        f"| {'–' if row.kind == 'trials' else f'{100 * share:.0f} %'} |\n"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["trials", "workers", "depth"], help="(default: all)")
    parser.add_argument("--image-size", type=int, default=96, help="(default: %(default)s)")
    parser.add_argument("--precision", choices=list(DTYPES), default="bf16", help="(default: %(default)s)")
    parser.add_argument("--most", type=int, choices=COUNTS, default=COUNTS[-1], help="trials (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="growth-") as temporary:
        folder = Path(temporary)
        write_images(folder / "many", VIT_NANO, NUM_TRAIN, NUM_VALIDATION)
        write_images(folder / "few", VIT_NANO, FEW_TRAIN, FEW_VALIDATION)
        rows = [row for row in rows_of(folder, options) if options.only in (None, row.kind)]
        rounds = [[measured(row, folder, options) for row in rows] for _ in range(options.rounds)]
    sys.stdout.write(
        "| what grows | to | training images/s | steps/s | times (least – most) | beside a trial, s | memory, MB "
        "| share |\n|---|" + "---:|" * 7 + "\n"
    )
    columns = [list(column) for column in zip(*rounds, strict=True)]
    for row, column in zip(rows, columns, strict=True):
        first = next(index for index, one in enumerate(rows) if one.kind == row.kind)
        show(row, column, columns[first], rows[first].num_images)
    return 0


if __name__ == "__main__":
    sys.exit(main())
