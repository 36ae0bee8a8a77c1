"""Which part of each image is shown: the evaluation's centre crop and the training's random crops, as numbers.

Computed on the CPU in float64 whatever the device, so that every machine cuts at the same pixel.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmark.streams import stream_key, uniform
from benchmark.training.transfer import to_device

if TYPE_CHECKING:
    from jaxtyping import Bool, Int

CROP_AREA_FRACTIONS = (0.08, 1.0)
CROP_ASPECT_RATIOS = (3.0 / 4.0, 4.0 / 3.0)
NUM_CROP_ATTEMPTS = 10


@dataclass(frozen=True)
class Axis:
    """What is shown of each image along one axis, in pixels.

    Attributes:
        start: int64 [B]: first source pixel of the crop.
        length: int64 [B]: source pixels in the crop.
        resized_length: int64 [B]: pixels that the crop becomes.
        first_shown: int64 [B]: which of those is the output's first.
    """

    start: Int[Tensor, " batch"]
    length: Int[Tensor, " batch"]
    resized_length: Int[Tensor, " batch"]
    first_shown: Int[Tensor, " batch"]

    def part(self, images: slice) -> Axis:
        """Return the same for some of the images."""
        return Axis(self.start[images], self.length[images], self.resized_length[images], self.first_shown[images])

    def to(self, device: torch.device) -> Axis:
        """Return the same on another device."""
        values = (self.start, self.length, self.resized_length, self.first_shown)
        return Axis(*(to_device(value, device) for value in values))

    def is_uniform(self) -> bool:
        """Return whether all images are resized alike."""
        return all(bool((v == v[0]).all()) for v in (self.length, self.resized_length, self.first_shown))


@dataclass(frozen=True)
class Windows:
    """What is shown of each image of a batch.

    Attributes:
        vertical: Rows.
        horizontal: Columns.
        mirrored: bool [B]: shown right to left.
    """

    vertical: Axis
    horizontal: Axis
    mirrored: Bool[Tensor, " batch"]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.mirrored)

    def part(self, images: slice) -> Windows:
        """Return the same for some of the images."""
        return Windows(self.vertical.part(images), self.horizontal.part(images), self.mirrored[images])


def centre_windows(
    heights: Int[Tensor, " batch"], widths: Int[Tensor, " batch"], size_pixels: int, crop_fraction: float
) -> Windows:
    """Show the centre: the shorter side resized to floor(size / crop fraction), the centre square of `size` shown.

    Source: timm's and torchvision's evaluation, `Resize` of the shorter side and `CenterCrop`.
    """
    resized_shorter = math.floor(size_pixels / crop_fraction)
    shorter = torch.minimum(heights, widths)

    def along(lengths: Tensor) -> Axis:
        # The longer side is cut to a whole number by integer division, as torchvision does.
        resized = torch.where(lengths == shorter, resized_shorter, resized_shorter * lengths // shorter)
        first = torch.round((resized - size_pixels).double() / 2.0).long()
        return Axis(torch.zeros_like(lengths), lengths, resized, first)

    return Windows(along(heights), along(widths), torch.zeros(len(heights), dtype=torch.bool))


def random_crop_windows(
    heights: Int[Tensor, " batch"],
    widths: Int[Tensor, " batch"],
    size_pixels: int,
    seed: int,
    epoch: int,
    rows: Int[Tensor, " batch"],
) -> Windows:
    """Show a random crop, mirrored half of the time; the draw depends on (seed, epoch, row) alone.

    The crop covers 8-100 % of the area with an aspect ratio of 3/4-4/3 (uniform in its logarithm); the first of ten
    attempts that fits is taken, else the largest centre crop whose ratio is allowed.

    Args:
        heights: Of the stored images.
        widths: Likewise.
        size_pixels: Side of the square output.
        seed: The trial's seed.
        epoch: 1-based epoch.
        rows: Each image's row in its split.

    Source: Szegedy et al. (2015), https://arxiv.org/abs/1409.4842, as in torchvision's `RandomResizedCrop`.
    """
    draws = functools.partial(_draws, seed=seed, epoch=epoch)
    attempts = rows[:, None] * NUM_CROP_ATTEMPTS + torch.arange(NUM_CROP_ATTEMPTS)
    crop_heights, crop_widths, fits = _attempted_crops(
        heights, widths, draws("augmentation/crop-area", attempts), draws("augmentation/crop-ratio", attempts)
    )
    first = fits.long().argmax(dim=1, keepdim=True)
    fallback_height, fallback_width = _largest_allowed_crop(heights, widths)
    found = fits.any(dim=1)
    crop_height = torch.where(found, crop_heights.gather(1, first)[:, 0], fallback_height)
    crop_width = torch.where(found, crop_widths.gather(1, first)[:, 0], fallback_width)
    tops = _starts(heights - crop_height, draws("augmentation/crop-top", rows), found)
    lefts = _starts(widths - crop_width, draws("augmentation/crop-left", rows), found)
    mirrored = draws("augmentation/flip", rows) < 0.5
    resized, none = torch.full_like(heights, size_pixels), torch.zeros_like(heights)
    return Windows(Axis(tops, crop_height, resized, none), Axis(lefts, crop_width, resized, none), mirrored)


def _attempted_crops(
    heights: Tensor, widths: Tensor, area_draws: Tensor, ratio_draws: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return [B, attempts] crop heights and widths, and whether each fits into its image."""
    smallest, largest = CROP_AREA_FRACTIONS
    areas = (heights * widths)[:, None].double() * (smallest + (largest - smallest) * area_draws)
    low, high = (math.log(ratio) for ratio in CROP_ASPECT_RATIOS)
    ratios = torch.exp(low + (high - low) * ratio_draws)
    crop_widths = torch.round(torch.sqrt(areas * ratios)).long()
    crop_heights = torch.round(torch.sqrt(areas / ratios)).long()
    fits_width = (crop_widths > 0) & (crop_widths <= widths[:, None])
    return crop_heights, crop_widths, fits_width & (crop_heights > 0) & (crop_heights <= heights[:, None])


def _largest_allowed_crop(heights: Tensor, widths: Tensor) -> tuple[Tensor, Tensor]:
    narrowest, widest = CROP_ASPECT_RATIOS
    ratios = widths.double() / heights.double()
    crop_heights = torch.where(ratios < narrowest, torch.round(widths.double() / narrowest).long(), heights)
    crop_widths = torch.where(ratios > widest, torch.round(heights.double() * widest).long(), widths)
    return crop_heights, crop_widths


def _starts(room: Tensor, draws: Tensor, is_random: Tensor) -> Tensor:
    return torch.where(is_random, (draws * (room + 1)).long(), room // 2)


def _draws(name: str, counters: Tensor, seed: int, epoch: int) -> Tensor:
    return uniform(stream_key(seed, f"{name}/epoch{epoch}"), counters).double()
