"""From a data set's uint8 images to the normalised batches a backbone sees."""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor

from benchmark.datasets.contract import Dataset, Split
from benchmark.datasets.reading.seal import refuse_when_sealed
from benchmark.streams import stream_key, uniform
from benchmark.training.input.decoded_index import open_split
from benchmark.training.input.resampling import resample
from benchmark.training.input.stored import StoredImages
from benchmark.training.input.windows import Windows, centre_windows, random_crop_windows
from benchmark.training.transfer import to_device

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, UInt8

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

TORCHVISION_INTERPOLATION = "bilinear"
"""What torchvision's transforms resize with unless told otherwise."""
TORCHVISION_CROP_FRACTION = 224 / 256
"""`Resize(256)` and `CenterCrop(224)`; in proportion for other input sizes."""

SHIFT_FRACTION = 1 / 8
"""Largest shift of the `shift` augmentation, as a fraction of the image's side."""
LARGEST_PREPARED_BYTES = 64 * 2**20
"""A split whose normalised inputs take no more is resampled once a process instead of in every epoch."""
NUM_REUSED_BATCHES = 2
"""Batches whose memory is kept: one that the step still holds, and the next."""


@dataclass(frozen=True)
class Presentation:
    """How images are shown to a backbone.

    Attributes:
        image_size_pixels: Side of the square input.
        interpolation: Resampling filter: `bicubic` or `bilinear`, with antialiasing.
        mean: Channel means for pixels in [0, 1].
        std: Channel standard deviations.
        crop_fraction: Share of the shorter side that evaluation shows, from the centre.
    """

    image_size_pixels: int
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_fraction: float = 1.0


@dataclass(frozen=True)
class SplitImages:
    """One split, from which batches are made on demand.

    Attributes:
        stored: Its decoded images.
        presentation: How they are shown.
    """

    stored: StoredImages
    presentation: Presentation
    _memory: list[NDArray[np.float32]] = field(default_factory=list, repr=False, compare=False)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.stored)

    @property
    def identities(self) -> NDArray[np.str_]:
        """Names [N] that stay the same whatever the split or order."""
        return self.stored.identities

    @property
    def labels(self) -> Int[Tensor, " images"]:
        """Classes [N]."""
        return self.stored.labels

    @property
    def source(self) -> int:
        """A number that is equal where batches of the same rows, seed and epoch are equal."""
        return id(self.stored)

    def batch(self, rows: Int[Tensor, " batch"], device: torch.device | str) -> Float[Tensor, "batch 3 size size"]:
        """Return images as evaluation shows them, normalised, on the device."""
        if self._prepared is not None:
            return to_device(self._prepared[rows], device)
        stored, how = self.stored, self.presentation
        heights, widths = stored.heights[rows], stored.widths[rows]
        return self._resampled(rows, centre_windows(heights, widths, how.image_size_pixels, how.crop_fraction), device)

    def training_batch(
        self, rows: Int[Tensor, " batch"], augmentation: str, seed: int, epoch: int, device: torch.device | str
    ) -> Float[Tensor, "batch 3 size size"]:
        """Return augmented images, normalised, on the device; the draw depends on (seed, epoch, row) alone.

        Args:
            rows: Which images of the split.
            augmentation: `crop_flip`: a random crop of the stored image, mirrored half of the time; the others act on
                what `batch` returns: see `augment`.
            seed: The trial's seed.
            epoch: 1-based epoch.
            device: Where the batch is made.
        """
        if augmentation != "crop_flip":
            return augment(self.batch(rows, device), augmentation, seed, epoch, to_device(rows, device))
        heights, widths = self.stored.heights[rows], self.stored.widths[rows]
        size = self.presentation.image_size_pixels
        return self._resampled(rows, random_crop_windows(heights, widths, size, seed, epoch, rows), device)

    @functools.cached_property
    def _prepared(self) -> Float[Tensor, "images 3 size size"] | None:
        """All images as evaluation shows them, where they are few, of one square size and shown whole."""
        size, stored = self.presentation.image_size_pixels, self.stored
        side = int(stored.heights[0])
        is_whole = self.presentation.crop_fraction == 1.0 and bool(
            ((stored.heights == side) & (stored.widths == side)).all()
        )
        if not is_whole or len(self) * 3 * size * size * 4 > LARGEST_PREPARED_BYTES:
            return None
        return present(torch.from_numpy(np.stack([stored.image(row) for row in range(len(self))])), self.presentation)

    def _resampled(
        self, rows: Int[Tensor, " batch"], windows: Windows, device: torch.device | str
    ) -> Float[Tensor, "batch 3 size size"]:
        how = self.presentation
        crops = to_device(self.stored.crops(rows, windows.vertical, windows.horizontal), device)
        output = self._unused_memory(len(rows)) if crops.device.type == "cpu" else None
        return resample(crops, windows, how.image_size_pixels, how.interpolation, how.mean, how.std, output)

    def _unused_memory(self, num_images: int) -> Tensor:
        """Return memory for a batch, that of an earlier one if nothing refers to it any more.

        The system clears fresh memory page by page, which takes as long as the resampling itself.
        """
        size = self.presentation.image_size_pixels
        shape = (num_images, 3, size, size)
        for index in range(len(self._memory)):
            # One reference is the list's and one the call's own: every tensor over the array adds one.
            if sys.getrefcount(self._memory[index]) <= 2 and self._memory[index].shape == shape:
                return torch.from_numpy(self._memory[index])
        self._memory.append(np.empty(shape, dtype=np.float32))
        del self._memory[:-NUM_REUSED_BATCHES]
        return torch.from_numpy(self._memory[-1])


def open_images(dataset: Dataset, split: Split, presentation: Presentation) -> SplitImages:
    """Open one split; kept in the process for the trials that follow.

    Raises:
        SealedTestError: It is the test split, and this process searches.
    """
    refuse_when_sealed(dataset.info.name, split)
    return _kept_images(dataset, split, presentation)


@functools.lru_cache(maxsize=8)
def _kept_images(dataset: Dataset, split: Split, presentation: Presentation) -> SplitImages:
    return SplitImages(open_split(dataset, split, presentation.image_size_pixels), presentation)


def present(pixels: UInt8[Tensor, "images height width 3"], how: Presentation) -> Float[Tensor, "images 3 size size"]:
    """Resize uint8 images to the input size and normalise them."""
    size = (how.image_size_pixels, how.image_size_pixels)
    scaled = pixels.permute(0, 3, 1, 2).to(torch.float32) / 255.0
    resized = functional.interpolate(scaled, size, mode=how.interpolation, align_corners=False, antialias=True)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (how.mean, how.std))
    return (resized.clamp(0.0, 1.0) - mean) / std


def augment(
    pixels: Float[Tensor, "batch 3 size size"],
    augmentation: str,
    seed: int,
    epoch: int,
    rows: Int[Tensor, " batch"],
) -> Float[Tensor, "batch 3 size size"]:
    """Change training images at random; the draw depends on (seed, epoch, image) alone.

    Args:
        pixels: The batch.
        augmentation: `none`; `flip`: mirror half of the images; `shift`: move by up to an eighth of the side each way,
            the edge pixels repeated.
        seed: The trial's seed.
        epoch: 1-based epoch.
        rows: Each image's row in its split.
    """
    if augmentation == "none":
        return pixels
    draws = functools.partial(_draws, seed=seed, epoch=epoch, rows=rows)
    if augmentation == "flip":
        return torch.where(is_mirrored(seed, epoch, rows).view(-1, 1, 1, 1), pixels.flip(-1), pixels)
    if augmentation == "shift":
        return _shifted(pixels, draws("augmentation/shift-x"), draws("augmentation/shift-y"))
    raise AssertionError(augmentation)


def is_mirrored(seed: int, epoch: int, rows: Int[Tensor, " batch"]) -> Bool[Tensor, " batch"]:
    """Return which images of a split the augmentation `flip` mirrors in an epoch."""
    return _draws("augmentation/flip", seed, epoch, rows) < 0.5


def _draws(name: str, seed: int, epoch: int, rows: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    return uniform(stream_key(seed, f"{name}/epoch{epoch}"), rows)


def _shifted(
    pixels: Float[Tensor, "batch 3 size size"], draws_x: Float[Tensor, " batch"], draws_y: Float[Tensor, " batch"]
) -> Float[Tensor, "batch 3 size size"]:
    size = pixels.shape[-1]
    reach = max(1, round(size * SHIFT_FRACTION))
    offsets_x, offsets_y = ((draws * (2 * reach + 1)).long() - reach for draws in (draws_x, draws_y))
    positions = torch.arange(size, device=pixels.device)
    columns = (positions + offsets_x[:, None]).clamp(0, size - 1)
    lines = (positions + offsets_y[:, None]).clamp(0, size - 1)
    images = torch.arange(len(pixels), device=pixels.device)
    return pixels[images[:, None, None], :, lines[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
