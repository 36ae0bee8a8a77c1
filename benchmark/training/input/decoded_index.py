"""Decode once: the images of a split as uint8 bytes in one memory-mapped file, shared by all trials of a node.

Sizes: an image whose shorter side has at most 256 pixels (for inputs up to 224 pixels; 8/7 of a larger input) is stored
exactly. A larger one is stored with its shorter side resized to that length, with PIL's antialiased bicubic filter, its
longer side in proportion.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.cache_folder import HeldEntry, cap_bytes, mapped_bytes, open_entry, prune
from benchmark.datasets.contract import Dataset, ImageItems, Split
from benchmark.datasets.reading.seal import refuse_when_sealed
from benchmark.spec import as_canonical_json
from benchmark.training.input.stored import NUM_CHANNELS, StoredImages

if TYPE_CHECKING:
    from PIL.Image import Image

Progress = Callable[[int, int], None]
"""Told the images decoded so far, and how many there are."""

KIND = "decoded"
FORMAT = 1
LEAST_SHORTER_SIDE_PIXELS = 256
SHORTER_SIDE_PER_INPUT_SIDE = 256 / 224
LARGEST_IN_MEMORY_BYTES = 16 * 2**20
"""A split smaller than this is decoded anew in each process, which takes about a second at most."""

_PIXELS, _SIZES = "pixels.bin", "sizes.npy"
_NUM_IMAGES_AT_ONCE = 512

logger = logging.getLogger(__name__)


def largest_shorter_side(image_size_pixels: int) -> int:
    """Return the longest shorter side that is stored for inputs of this size."""
    return max(LEAST_SHORTER_SIDE_PIXELS, math.ceil(image_size_pixels * SHORTER_SIDE_PER_INPUT_SIDE))


def open_split(
    dataset: Dataset, split: Split, image_size_pixels: int, progress: Progress | None = None
) -> StoredImages:
    """Return a split's decoded images: a few in memory, more from the decode cache, which is filled first if need be.

    Training and validation images lie in one index, by identity, since the split between them may follow the seed. The
    test images have their own, which nothing but the end of a trial opens.

    Args:
        dataset: The data set.
        split: Which of its splits.
        image_size_pixels: Side of the backbone's input.
        progress: Told how far the decoding is; none: the log is.

    Raises:
        MissingError: The data are not here, or the cache cannot be written.
        SealedTestError: It is the test split, and this process searches.
    """
    refuse_when_sealed(dataset.info.name, split)
    limit = largest_shorter_side(image_size_pixels)
    if split == "test":
        return open_stored(dataset.items(split), f"{dataset.info.name}/test", limit, progress)
    pool = PooledItems([dataset.items("train"), dataset.items("validation")])
    stored = open_stored(pool, f"{dataset.info.name}/train", limit, progress)
    return stored.take(torch.from_numpy(pool.rows_of(dataset.items(split).identities)))


def open_stored(
    items: ImageItems, name: str, largest_shorter_side_pixels: int, progress: Progress | None = None
) -> StoredImages:
    """Return decoded images: a few in memory, more from the decode cache, which is filled first if need be."""
    limit, num_images = largest_shorter_side_pixels, len(items.labels)
    if stored_pixels(items.decode(0), limit).size * num_images <= LARGEST_IN_MEMORY_BYTES:
        images = list(_decoded(items, limit))
        sizes, pixels = [image.shape[:2] for image in images], [image.reshape(-1) for image in images]
        return StoredImages.of_one_buffer(items.identities, items.labels, np.array(sizes), np.concatenate(pixels))
    description = {"name": name, "num_images": num_images, "largest_shorter_side_pixels": limit}
    tell = progress or _logging(name)
    held = open_entry(KIND, index_key(items, limit), description, lambda folder: _write(folder, items, limit, tell))
    prune(cap_bytes())
    return _mapped(held, items)


class PooledItems:
    """The images of several splits together, sorted by identity.

    Attributes:
        identities: str array [N].
        labels: int64 array [N].
        content_sha256: Hash of the parts' hashes.
    """

    def __init__(self, parts: Sequence[ImageItems]) -> None:
        """Pool the splits."""
        self._parts = parts
        identities = np.concatenate([part.identities for part in parts])
        order = np.argsort(identities, kind="stable")
        part_of = np.concatenate([np.full(len(part.labels), index) for index, part in enumerate(parts)])
        self._part_of = part_of[order].tolist()
        self._row_of = np.concatenate([np.arange(len(part.labels)) for part in parts])[order].tolist()
        self.identities = identities[order]
        self.labels = np.concatenate([part.labels for part in parts])[order]
        hashes = sorted({part.content_sha256 for part in parts})
        self.content_sha256 = hashlib.sha256("/".join(hashes).encode()).hexdigest()

    def decode(self, row: int) -> Image:
        """Return one image: RGB, upright, 8 bit."""
        return self._parts[self._part_of[row]].decode(self._row_of[row])

    def rows_of(self, identities: NDArray[np.str_]) -> NDArray[np.int64]:
        """Return where the images of these names are."""
        return np.searchsorted(self.identities, identities).astype(np.int64)


def index_key(items: ImageItems, largest_shorter_side_pixels: int) -> str:
    """Return the index's name: a hash of the data, which images in which order, and the rule of their sizes."""
    identities = hashlib.sha256("\n".join(items.identities.tolist()).encode()).hexdigest()
    content = {
        "format": FORMAT,
        "content_sha256": items.content_sha256,
        "identities_sha256": identities,
        "largest_shorter_side_pixels": largest_shorter_side_pixels,
    }
    return hashlib.sha256(as_canonical_json(content).encode()).hexdigest()[:32]


def stored_pixels(image: Image, largest_shorter_side_pixels: int) -> NDArray[np.uint8]:
    """Return an image as it is stored, [height, width, 3]."""
    from PIL.Image import Resampling

    shorter = min(image.size)
    if shorter > largest_shorter_side_pixels:
        width, height = (largest_shorter_side_pixels * side // shorter for side in image.size)
        image = image.resize((width, height), Resampling.BICUBIC)
    return np.asarray(image.convert("RGB"), dtype=np.uint8)


def _write(folder: Path, items: ImageItems, limit: int, progress: Progress) -> None:
    num_images = len(items.labels)
    sizes = []
    with (folder / _PIXELS).open("wb") as file:
        for image in _decoded(items, limit):
            file.write(np.ascontiguousarray(image).data)
            sizes.append(image.shape[:2])
            progress(len(sizes), num_images)
    np.save(folder / _SIZES, np.array(sizes, dtype=np.int64))


def _decoded(items: ImageItems, limit: int) -> Iterator[NDArray[np.uint8]]:
    """Yield the stored pixels in order; PIL lets go of Python's lock, so threads decode on every core."""
    num_images = len(items.labels)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
        # In portions, since `map` would decode the whole split ahead of the writing.
        for start in range(0, num_images, _NUM_IMAGES_AT_ONCE):
            rows = range(start, min(start + _NUM_IMAGES_AT_ONCE, num_images))
            yield from threads.map(lambda row: stored_pixels(items.decode(row), limit), rows)


def _mapped(held: HeldEntry, items: ImageItems) -> StoredImages:
    sizes = np.load(held.folder / _SIZES, allow_pickle=False)
    buffer = mapped_bytes(held, _PIXELS)
    expected = int(sizes.prod(axis=1).sum()) * NUM_CHANNELS
    assert buffer.size == expected, (held.folder, buffer.size, expected)
    return StoredImages.of_one_buffer(items.identities, items.labels, sizes, buffer)


def _logging(name: str) -> Progress:
    def log(num_decoded: int, num_images: int) -> None:
        if num_decoded % max(1, num_images // 10) == 0:
            logger.info("decoding %s once: %d of %d images", name, num_decoded, num_images)

    return log
