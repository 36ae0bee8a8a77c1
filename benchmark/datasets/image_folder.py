"""A user's own images: a folder `train/CLASS/IMAGE`, `[val/...]`, `test/...`, or an uncompressed tar of it."""

from __future__ import annotations

import dataclasses
import functools
import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.datasets.contract import (
    SPLITS,
    Dataset,
    DatasetInfo,
    ImageItems,
    Split,
    SplitChoice,
    refuse_split_options,
)
from benchmark.datasets.reading.folders import ImageTree, read_tree, shared_images
from benchmark.datasets.reading.items import StoredItems, digest_of, subset
from benchmark.datasets.reading.splitting import DEFAULT_VALIDATION_FRACTION, hold_out, paper_split
from benchmark.errors import RequestError

logger = logging.getLogger(__name__)

_INFO = DatasetInfo(
    name="image_folder",
    title="Your own images in folders of classes, or a tar of them",
    class_names=(),
    licence="as the images'",
    source="named by you: image_folder:DIR or image_folder:FILE.tar",
    flips_keep_labels=False,
    split_note="val/ where there is one, else 10 % of train by class, by the hash of each image's path",
)


class ImageFolder(Dataset):
    """Images in folders of classes. Every image's content hash is in the manifest, and so in a trial's identity."""

    def __init__(self, root: Path | None = None, choice: SplitChoice | None = None, where: str = "dataset") -> None:
        """Name a folder or tar; nothing is read before it is asked for."""
        self.root, self._choice, self._where = root, choice or SplitChoice(), where

    def configured(self, root: str | None, choice: SplitChoice, where: str) -> Dataset:
        """Return the data set at a folder or tar.

        Raises:
            RequestError: The preset is not one of folders.
        """
        if choice.preset == "vtab_1000":
            refuse_split_options(_INFO.name, choice, where, "is not one of VTAB-1k's tasks")
        return ImageFolder(Path(root) if root else None, choice, where)

    @functools.cached_property
    def info(self) -> DatasetInfo:  # type: ignore[override]
        """The facts: those of the kind alone while no folder is named."""
        if self.root is None:
            return _INFO
        counts: dict[Split, int] = {split: len(rows.labels) for split, rows in self._splits.items()}
        return dataclasses.replace(_INFO, class_names=self._tree.class_names, num_images=counts, num_classes=0)

    def read_manifest(self) -> dict[str, Any]:
        """Return the split with the content hash of every image."""
        contents = {image.identity: image.content_sha256 for images in self._tree.images.values() for image in images}
        splits = {split: items.identities.tolist() for split, items in self._splits.items()}
        return {
            "dataset": _INFO.name,
            "classes": list(self._tree.class_names),
            "splits": splits,
            "content_sha256": {split: [contents[name] for name in names] for split, names in splits.items()},
        }

    def items(self, split: Split) -> ImageItems:
        """Return one split's images.

        Raises:
            MissingError: The folder is not there.
            RequestError: It is not laid out as it must be.
        """
        return self._splits[split]

    @functools.cached_property
    def split_sha256(self) -> str:
        """The manifest's hash; under the preset `paper`, whose manifest follows the seed, the rule's and contents'."""
        if self._choice.preset == "paper":
            return digest_of("paper", self._tree.content_sha256)
        return self.manifest_sha256

    @functools.cached_property
    def shared_images(self) -> list[tuple[str, str]]:
        """Pairs (image of train or validation, test image) whose files are equal byte for byte."""
        return shared_images(self._tree)

    @functools.cached_property
    def _tree(self) -> ImageTree:
        if self.root is None:
            hint = "Such as image_folder:path/to/images, or {name: image_folder, root: DIR}."
            raise RequestError(f"{self._where}.root", None, "image_folder needs the folder of the images", hint)
        tree = read_tree(self.root)
        shared = shared_images(tree)
        if shared:
            pairs = "; ".join(f"{outside} = {tested}" for outside, tested in shared)
            logger.warning("%s: %d test images are also trained on: %s", self.root, len(shared), pairs)
        return tree

    @functools.cached_property
    def _splits(self) -> dict[Split, StoredItems]:
        parts = {split: self._tree.items(split) for split in SPLITS if split in self._tree.images}
        return split_parts(parts, self._choice, f"{self._where} {self.root}")


def split_parts(parts: dict[Split, StoredItems], choice: SplitChoice, where: str) -> dict[Split, StoredItems]:
    """Hold out validation images where a user's data have none.

    Raises:
        RequestError: A share is asked for although there are validation images.
    """
    if "validation" in parts:
        refuse_split_options(where, choice, where, "has validation images of its own")
        return {split: parts[split] for split in SPLITS}
    train = parts["train"]
    kept, held_out = _rows(train, choice)
    if not len(held_out):
        rule = "there are too few training images to hold any out for validation"
        raise RequestError(where, f"{len(train)} training images", rule, "Raise validation_fraction or add val/.")
    return {"train": subset(train, kept), "validation": subset(train, held_out), "test": parts["test"]}


def _rows(train: StoredItems, choice: SplitChoice) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if choice.preset == "paper":
        return paper_split(len(train), choice.seed)
    fraction = choice.validation_fraction or DEFAULT_VALIDATION_FRACTION
    return hold_out(train.identities, train.labels, fraction, "validation")


DATASET = ImageFolder()
