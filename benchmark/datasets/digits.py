"""Real handwritten digits, 8 x 8 pixels, in the package: needs no download."""

from __future__ import annotations

import functools
import hashlib
import io
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.datasets.contract import Dataset, DatasetInfo, ImageItems, LabelledImages, Split, parse_manifest
from benchmark.datasets.reading.items import ArrayItems
from benchmark.datasets.reading.seal import refuse_when_sealed

_LARGEST_GREY = 16


class Digits(Dataset):
    """The 1,797 images that scikit-learn distributes as `load_digits`."""

    info = DatasetInfo(
        name="digits",
        title="Optical recognition of handwritten digits",
        class_names=tuple(str(digit) for digit in range(10)),
        num_images={"train": 1257, "validation": 180, "test": 360},
        licence="CC BY 4.0",
        source="Alpaydin & Kaynak (1998), UCI Machine Learning Repository, test part, as in scikit-learn's load_digits",
        flips_keep_labels=False,
        split_note="a stratified split in the package",
    )

    def read_manifest(self) -> dict[str, Any]:
        """Return the stratified split that lies beside the images."""
        return parse_manifest((files(__package__) / "data" / "digits.split.json").read_text(encoding="utf-8"))

    def items(self, split: Split) -> ImageItems:
        """Return one split, image by image."""
        images = self.load(split)
        return ArrayItems(images.identities, images.labels, hashlib.sha256(_archive()).hexdigest(), images.pixels)

    def load(self, split: Split) -> LabelledImages:
        """Return one split; grey levels 0-16 become 0-255 in three equal channels."""
        refuse_when_sealed(self.info.name, split)
        identities = self.read_manifest()["splits"][split]
        rows = np.array([int(identity.removeprefix("digits-")) for identity in identities])
        grey_images, labels = _read_images()
        grey = np.rint(grey_images[rows] * (255.0 / _LARGEST_GREY)).astype(np.uint8)
        return LabelledImages(np.array(identities), np.repeat(grey[..., None], 3, axis=-1), labels[rows])


@functools.cache
def _read_images() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return grey images [1797, 8, 8] with levels 0-16, and labels [1797]."""
    with np.load(io.BytesIO(_archive()), allow_pickle=False) as archive:
        return archive["images"], archive["labels"]


def _archive() -> bytes:
    return (files(__package__) / "data" / "digits.npz").read_bytes()


DATASET = Digits()
