"""Image items for the tests of the input path: smooth colours of any sizes, decoded on demand, optionally slowly."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def smooth_image(row: int, height: int, width: int) -> Image.Image:
    """Return noise of an eighth of the size, enlarged: edges and gradients as photographs have them."""
    noise = np.random.default_rng(row).integers(0, 256, (-(-height // 8), -(-width // 8), 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


@dataclass(frozen=True)
class SyntheticItems:
    """Items of the sizes given, (height, width) each."""

    sizes: Sequence[tuple[int, int]]
    content_sha256: str = "0" * 64
    seconds_per_image: float = 0.0
    decoded_rows: list[int] = field(default_factory=list)

    @property
    def identities(self) -> NDArray[np.str_]:
        return np.array([f"image-{row:06d}" for row in range(len(self.sizes))])

    @property
    def labels(self) -> NDArray[np.int64]:
        return np.arange(len(self.sizes)) % 10

    def decode(self, row: int) -> Image.Image:
        time.sleep(self.seconds_per_image)
        self.decoded_rows.append(row)
        return smooth_image(row, *self.sizes[row])
