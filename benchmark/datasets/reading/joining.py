"""A data set whose training images are those of training and validation together: what a locked setting is trained on.

The validation images stay what they were, so they are among the training images and can choose nothing any more.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmark.datasets.contract import Dataset, DatasetInfo, ImageItems, Split

if TYPE_CHECKING:
    import PIL.Image


class JoinedItems:
    """The images of several splits, one split after the other.

    Attributes:
        identities: str array [N].
        labels: int64 array [N].
        content_sha256: Of the first part; the parts are of one data set.
    """

    def __init__(self, parts: Sequence[ImageItems]) -> None:
        """Join the parts in order."""
        self._parts = parts
        self._starts = np.cumsum([0, *(len(part.labels) for part in parts)])
        self.identities: NDArray[np.str_] = np.concatenate([part.identities for part in parts])
        self.labels: NDArray[np.int64] = np.concatenate([part.labels for part in parts])
        self.content_sha256 = parts[0].content_sha256

    def decode(self, row: int) -> PIL.Image.Image:
        """Return one image."""
        part = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._parts[part].decode(row - int(self._starts[part]))


class TrainAndValidation(Dataset):
    """Another data set's splits, its validation images trained on too."""

    def __init__(self, parts: Dataset) -> None:
        """Take a data set with its fixed split."""
        self._parts = parts

    @functools.cached_property
    def info(self) -> DatasetInfo:  # type: ignore[override]
        """The facts, with the training images there are now."""
        counts = dict(self._parts.info.num_images)
        if counts:
            counts["train"] += counts["validation"]
        return dataclasses.replace(self._parts.info, num_images=counts)

    def read_manifest(self) -> dict[str, Any]:
        """Return the split."""
        manifest = self._parts.read_manifest()
        splits = manifest["splits"]
        return {**manifest, "splits": {**splits, "train": [*splits["train"], *splits["validation"]]}}

    def items(self, split: Split) -> ImageItems:
        """Return one split's images."""
        if split != "train":
            return self._parts.items(split)
        return JoinedItems([self._parts.items("train"), self._parts.items("validation")])

    @functools.cached_property
    def split_sha256(self) -> str:
        """The hash of the preset and of the split it starts from."""
        from benchmark.datasets.reading.items import digest_of

        return digest_of("train_and_validation", self._parts.split_sha256)
