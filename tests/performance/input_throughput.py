"""Images/s of the input path beside a torchvision `DataLoader` of the same images and transforms, in one run.

    python -m tests.performance.input_throughput            # CIFAR-sized images to 224 px, and photographs as JPEG
    python -m tests.performance.input_throughput --image-size 96 --rounds 5

Both make batches of 128 normalised float32 images in this process's memory, RandomResizedCrop and a horizontal flip
applied, in a new order each epoch. Ours are made by 2 threads with one torch thread each, as two ranks on these cores
make theirs; the DataLoader has 2 persistent workers, and this process waits for them. Rounds alternate, one epoch
each; the first of each is thrown away, the median of the rest counts. The images are generated; what is in them does
not change the time.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmark.cache_folder import ROOT_VARIABLE
from benchmark.training.images import Presentation, SplitImages
from benchmark.training.input.decoded_index import largest_shorter_side, open_stored

NUM_CORES = 2
BATCH_IMAGES = 128
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MODES = {"bilinear": transforms.InterpolationMode.BILINEAR, "bicubic": transforms.InterpolationMode.BICUBIC}


@dataclass(frozen=True)
class GeneratedItems:
    """Images as a data set gives them: arrays, as CIFAR's, or JPEG bytes, as photographs'."""

    sources: Sequence[NDArray[np.uint8] | bytes]
    content_sha256: str
    labels: NDArray[np.int64] = field(init=False)
    identities: NDArray[np.str_] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", np.zeros(len(self.sources), dtype=np.int64))
        object.__setattr__(self, "identities", np.array([f"{row:08d}" for row in range(len(self.sources))]))

    def decode(self, row: int) -> Image.Image:
        source = self.sources[row]
        return Image.open(io.BytesIO(source)).convert("RGB") if isinstance(source, bytes) else Image.fromarray(source)


class TorchvisionDataset(Dataset[tuple[torch.Tensor, int]]):
    """The same images behind torchvision's transforms."""

    def __init__(self, items: GeneratedItems, image_size: int, interpolation: str) -> None:
        self._items = items
        self._transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(image_size, interpolation=MODES[interpolation]),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self._items.sources)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return self._transform(self._items.decode(row)), int(self._items.labels[row])


def small_images(num_images: int) -> GeneratedItems:
    """Generate images of CIFAR's size."""
    pixels = np.random.default_rng(0).integers(0, 256, (num_images, 32, 32, 3), dtype=np.uint8)
    return GeneratedItems(list(pixels), f"small-{num_images}")


def photographs(num_images: int) -> GeneratedItems:
    """Generate JPEG files of 500 x 375 pixels."""
    sources = []
    for row in range(num_images):
        noise = np.random.default_rng(row).integers(0, 256, (47, 63, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noise).resize((500, 375), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        sources.append(buffer.getvalue())
    return GeneratedItems(sources, f"photographs-{num_images}")


def our_epochs(items: GeneratedItems, image_size: int, interpolation: str) -> Callable[[], int]:
    """Return a function that makes one epoch's batches and returns the number of images."""
    stored = open_stored(items, items.content_sha256, largest_shorter_side(image_size))
    how = Presentation(image_size, interpolation, MEAN, STD)
    ranks = [SplitImages(stored, how) for _ in range(NUM_CORES)]
    threads, epochs = ThreadPoolExecutor(NUM_CORES), iter(range(1, sys.maxsize))

    def make(rank: SplitImages, batches: Sequence[torch.Tensor], epoch: int) -> int:
        return sum(len(rank.training_batch(rows, "crop_flip", 0, epoch, "cpu")) for rows in batches)

    def run() -> int:
        epoch = next(epochs)
        order = torch.randperm(len(stored), generator=torch.Generator().manual_seed(epoch))
        batches = order.split(BATCH_IMAGES)
        shares = [batches[index::NUM_CORES] for index in range(NUM_CORES)]
        return sum(threads.map(make, ranks, shares, [epoch] * NUM_CORES))

    return run


def torchvision_epochs(items: GeneratedItems, image_size: int, interpolation: str) -> Callable[[], int]:
    """Return the same for a torchvision `DataLoader`."""
    dataset = TorchvisionDataset(items, image_size, interpolation)
    loader = DataLoader(dataset, BATCH_IMAGES, shuffle=True, num_workers=NUM_CORES, persistent_workers=True)
    return lambda: sum(len(batch) for batch, _ in loader)


def images_per_second(paths: Sequence[Callable[[], int]], num_rounds: int) -> list[float]:
    """Return each path's median rate over rounds that alternate between the paths."""
    rates: list[list[float]] = [[] for _ in paths]
    for _ in range(num_rounds + 1):
        for path, path_rates in zip(paths, rates, strict=True):
            started = time.perf_counter()
            num_images = path()
            path_rates.append(num_images / (time.perf_counter() - started))
    return [statistics.median(path_rates[1:]) for path_rates in rates]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description="Input throughput beside a torchvision DataLoader.")
    parser.add_argument("--image-size", type=int, default=224, help="side of the output in pixels")
    parser.add_argument("--rounds", type=int, default=3, help="measured epochs of each path")
    parser.add_argument("--small-images", type=int, default=5120, help="number of 32 x 32 images")
    parser.add_argument("--photographs", type=int, default=512, help="number of JPEG images; 0: leave them out")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:NUM_CORES])
    torch.set_num_threads(1)
    sets = {"32 x 32": small_images(arguments.small_images), "JPEG 500 x 375": photographs(arguments.photographs)}
    write = sys.stdout.write
    write(f"images/s to {arguments.image_size} px on {len(os.sched_getaffinity(0))} cores, batches of {BATCH_IMAGES}\n")
    write(f"{'images':<16}{'filter':<10}{'this path':>12}{'DataLoader':>12}{'ratio':>8}\n")
    with tempfile.TemporaryDirectory() as folder:
        os.environ[ROOT_VARIABLE] = folder
        for name, items in sets.items():
            for interpolation in MODES if items.sources else ():
                make = (our_epochs, torchvision_epochs)
                paths = [path(items, arguments.image_size, interpolation) for path in make]
                ours, theirs = images_per_second(paths, arguments.rounds)
                write(f"{name:<16}{interpolation:<10}{ours:>12.0f}{theirs:>12.0f}{ours / theirs:>8.1f}\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
