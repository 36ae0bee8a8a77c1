"""The decoded images of one split: uint8 bytes at their stored size, in memory or mapped from the decode cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.training.input.windows import Axis

if TYPE_CHECKING:
    from jaxtyping import Int, UInt8

NUM_CHANNELS = 3


@dataclass(frozen=True)
class StoredImages:
    """Images of any sizes, one after another in one buffer.

    Attributes:
        identities: str array [N].
        labels: int64 tensor [N].
        heights: int64 tensor [N], in pixels.
        widths: Likewise.
        buffer: Flat uint8 array.
        offsets: int64 array [N]: where in it an image's first byte is; rows, columns, RGB follow.
    """

    identities: NDArray[np.str_]
    labels: Int[Tensor, " images"]
    heights: Int[Tensor, " images"]
    widths: Int[Tensor, " images"]
    buffer: NDArray[np.uint8]
    offsets: NDArray[np.int64]

    @classmethod
    def of_one_buffer(
        cls,
        identities: NDArray[np.str_],
        labels: NDArray[np.int64],
        sizes: NDArray[np.int64],
        buffer: NDArray[np.uint8],
    ) -> StoredImages:
        """Describe images that follow each other without gaps; `sizes` [N, 2] are heights and widths."""
        num_bytes = sizes.prod(axis=1) * NUM_CHANNELS
        heights, widths = torch.from_numpy(sizes.astype(np.int64).T.copy())
        return cls(
            identities=identities,
            labels=torch.from_numpy(np.asarray(labels, dtype=np.int64).copy()),
            heights=heights,
            widths=widths,
            buffer=buffer,
            offsets=np.cumsum(num_bytes) - num_bytes,
        )

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def image(self, row: int) -> NDArray[np.uint8]:
        """Return a view of one image, [height, width, 3]."""
        height, width, offset = int(self.heights[row]), int(self.widths[row]), int(self.offsets[row])
        flat = self.buffer[offset : offset + height * width * NUM_CHANNELS]
        return flat.reshape(height, width, NUM_CHANNELS)

    def crops(
        self, rows: Int[Tensor, " batch"], vertical: Axis, horizontal: Axis
    ) -> UInt8[Tensor, "batch height width 3"]:
        """Copy a crop of each image into the upper left corner of a common frame; the rest of the frame is black.

        The frame is as large as the batch's largest image, so where all are alike it does not depend on the draw.
        """
        frame_height, frame_width = int(self.heights[rows].max()), int(self.widths[rows].max())
        frames = np.zeros((len(rows), frame_height, frame_width, NUM_CHANNELS), dtype=np.uint8)
        sides = torch.stack([vertical.start, vertical.length, horizontal.start, horizontal.length], dim=1)
        for frame, row, (top, height, left, width) in zip(frames, rows.tolist(), sides.tolist(), strict=True):
            frame[:height, :width] = self.image(row)[top : top + height, left : left + width]
        return torch.from_numpy(frames)

    def take(self, rows: Int[Tensor, " taken"]) -> StoredImages:
        """Return some of the images, in the order of `rows`, without copying pixels."""
        chosen = rows.numpy()
        return StoredImages(
            self.identities[chosen],
            self.labels[rows],
            self.heights[rows],
            self.widths[rows],
            self.buffer,
            self.offsets[chosen],
        )
