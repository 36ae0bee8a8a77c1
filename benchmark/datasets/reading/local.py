"""The base of a user's own data: every image's content hash is in the manifest, and so in a trial's identity."""

from __future__ import annotations

import dataclasses
import functools
import logging
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.datasets.contract import (
    Dataset,
    DatasetInfo,
    ImageItems,
    Split,
    SplitChoice,
    refuse_split_options,
)
from benchmark.datasets.reading.items import StoredItems, digest_of, subset
from benchmark.datasets.reading.seal import refuse_when_sealed
from benchmark.datasets.reading.splitting import DEFAULT_VALIDATION_FRACTION, SPLITS, hold_out, paper_split
from benchmark.errors import RequestError

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class LocalParts:
    """A user's images as they lie there.

    Attributes:
        class_names: In the labels' order.
        items: Images of `train` and `test`, perhaps `validation`.
        content_sha256: Hash of each image's bytes, by identity.
    """

    class_names: tuple[str, ...]
    items: Mapping[Split, StoredItems]
    content_sha256: Mapping[str, str]

    def shared_images(self) -> list[tuple[str, str]]:
        """Return the pairs (image outside the test split, test image) whose bytes are equal."""
        contents = self.content_sha256
        outside: dict[str, str] = {}
        for split, items in self.items.items():
            if split != "test":
                outside.update({contents[name]: name for name in items.identities.tolist()})
        tested = self.items["test"].identities.tolist()
        return [(outside[contents[name]], name) for name in tested if contents[name] in outside]


@functools.cache
def _warn_once(message: str) -> None:
    """Warn of data once a process, however often a study opens them."""
    logger.warning(message)


class LocalDataset(Dataset):
    """Images of the user, at a place that does not enter the identity."""

    def __init__(
        self, info: DatasetInfo, place: str | None = None, choice: SplitChoice | None = None, where: str = "dataset"
    ) -> None:
        """Name a place; nothing is read before it is asked for."""
        self._kind, self.place, self._choice, self._where = info, place, choice or SplitChoice(), where

    @abstractmethod
    def read_parts(self) -> LocalParts:
        """Read and hash what lies at the place.

        Raises:
            MissingError: There is nothing.
            RequestError: It is not laid out as it must be.
        """

    def configured(self, root: str | None, choice: SplitChoice, where: str) -> Dataset:
        """Return the data set at a place.

        Raises:
            RequestError: The preset is not one of a user's data.
        """
        if choice.preset == "vtab_1000":
            refuse_split_options(self._kind.name, choice, where, "is not one of VTAB-1k's tasks")
        return type(self)(self._kind, root, choice, where)

    @functools.cached_property
    def info(self) -> DatasetInfo:  # type: ignore[override]
        """The facts: those of the kind alone while no place is named."""
        if self.place is None:
            return self._kind
        counts: dict[Split, int] = {split: len(items) for split, items in self._splits.items()}
        names = self._parts.class_names
        return dataclasses.replace(self._kind, class_names=names, num_images=counts, num_classes=len(names))

    def read_manifest(self) -> dict[str, Any]:
        """Return the split with the content hash of every image."""
        contents = self._parts.content_sha256
        splits = {split: items.identities.tolist() for split, items in self._splits.items()}
        return {
            "dataset": self._kind.name,
            "classes": list(self._parts.class_names),
            "splits": splits,
            "content_sha256": {split: [contents[name] for name in names] for split, names in splits.items()},
        }

    def items(self, split: Split) -> ImageItems:
        """Return one split's images.

        Raises:
            MissingError: The data are not there.
            RequestError: They are not laid out as they must be.
        """
        refuse_when_sealed(self.info.name, split)
        return self._splits[split]

    @functools.cached_property
    def split_sha256(self) -> str:
        """The manifest's hash; under the preset `paper`, whose manifest follows the seed, the rule's and contents'."""
        if self._choice.preset == "paper":
            return digest_of("paper", *(f"{digest} {name}" for name, digest in self._parts.content_sha256.items()))
        return self.manifest_sha256

    @functools.cached_property
    def shared_images(self) -> list[tuple[str, str]]:
        """Pairs (image of train or validation, test image) whose bytes are equal."""
        return self._parts.shared_images()

    @functools.cached_property
    def _parts(self) -> LocalParts:
        if self.place is None:
            hint = f"Such as {self._kind.name}:PLACE, or {{name: {self._kind.name}, root: PLACE}}."
            raise RequestError(f"{self._where}.root", None, f"{self._kind.name} needs the place of the images", hint)
        parts = self.read_parts()
        shared = parts.shared_images()
        if shared:
            pairs = "; ".join(f"{outside} = {tested}" for outside, tested in shared)
            _warn_once(f"{self.place}: {len(shared)} test images are also trained on: {pairs}")
        return parts

    @functools.cached_property
    def _splits(self) -> Mapping[Split, StoredItems]:
        parts, where = self._parts.items, f"{self._where} {self.place}"
        if "validation" in parts:
            refuse_split_options(where, self._choice, where, "has validation images of its own")
            return {split: parts[split] for split in SPLITS}
        kept, held_out = self._rows(parts["train"])
        if not len(held_out):
            rule = "there are too few training images to hold any out for validation"
            hint = "Raise validation_fraction or add a validation split."
            raise RequestError(where, f"{len(parts['train'])} training images", rule, hint)
        train = parts["train"]
        return {"train": subset(train, kept), "validation": subset(train, held_out), "test": parts["test"]}

    def _rows(self, train: StoredItems) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        if self._choice.preset == "paper":
            return paper_split(len(train), self._choice.seed)
        fraction = self._choice.validation_fraction or DEFAULT_VALIDATION_FRACTION
        return hold_out(train.identities, train.labels, fraction, "validation")
