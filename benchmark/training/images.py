"""From a data set's uint8 images to the normalised batches a backbone sees."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor

from benchmark.datasets.contract import Split, find_dataset
from benchmark.streams import stream_key, uniform

if TYPE_CHECKING:
    from jaxtyping import Float, Int, UInt8

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

SHIFT_FRACTION = 1 / 8
"""Largest shift of the `shift` augmentation, as a fraction of the image's side."""


@dataclass(frozen=True)
class Presentation:
    """How images are shown to a backbone.

    Attributes:
        image_size_pixels: Side of the square input.
        interpolation: Resampling filter: `bicubic` or `bilinear`, with antialiasing.
        mean: Channel means for pixels in [0, 1].
        std: Channel standard deviations.
    """

    image_size_pixels: int
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class PreparedImages:
    """One split, ready for the backbone.

    Attributes:
        identities: str array [N].
        pixels: Normalised float32 tensor [N, 3, size, size].
        labels: int64 tensor [N].
    """

    identities: NDArray[np.str_]
    pixels: Float[Tensor, "images 3 size size"]
    labels: Int[Tensor, " images"]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)


@functools.lru_cache(maxsize=8)
def prepare_images(dataset_name: str, split: Split, presentation: Presentation) -> PreparedImages:
    """Read, resize and normalise one split; kept in the process for the trials that follow."""
    images = find_dataset(dataset_name).load(split)
    pixels = torch.from_numpy(images.pixels)
    return PreparedImages(images.identities, present(pixels, presentation), torch.from_numpy(images.labels))


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
        mirrored = draws("augmentation/flip") < 0.5
        return torch.where(mirrored.view(-1, 1, 1, 1), pixels.flip(-1), pixels)
    if augmentation == "shift":
        return _shifted(pixels, draws("augmentation/shift-x"), draws("augmentation/shift-y"))
    raise AssertionError(augmentation)


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
