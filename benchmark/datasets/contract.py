"""What every data set states and gives: its facts, a fixed split, and the images of a split."""

from __future__ import annotations

import functools
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from benchmark.registry import member, member_names
from benchmark.spec import as_canonical_json

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class LabelledImages:
    """The images of one split, in the manifest's order.

    Attributes:
        identities: str array [N]: names that stay the same whatever the split or order.
        pixels: uint8 array [N, height, width, 3], RGB.
        labels: int64 array [N], in [0, number of classes).
    """

    identities: NDArray[np.str_]
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class DatasetInfo:
    """A data set's facts.

    Attributes:
        name: Public name, equal to the file's name.
        title: Name for people.
        class_names: One a class, in the labels' order.
        num_images: Images of each split.
        licence: Terms of use.
        source: Where it comes from, and what to cite.
        flips_keep_labels: Whether a mirrored image still shows its class; digits and signs do not.
        revision: Raised when the numbers obtained on it change.
    """

    name: str
    title: str
    class_names: tuple[str, ...]
    num_images: Mapping[Split, int]
    licence: str
    source: str
    flips_keep_labels: bool
    revision: int = 1


class Dataset(ABC):
    """A data set with a fixed split, independent of any trial's seed."""

    info: ClassVar[DatasetInfo]

    @abstractmethod
    def read_manifest(self) -> dict[str, Any]:
        """Return the split manifest: `dataset`, `classes`, and the image identities of each of `splits`."""

    @abstractmethod
    def load(self, split: Split) -> LabelledImages:
        """Return the images of one split.

        Raises:
            MissingError: The data are not here; it says which file to put where.
        """

    @functools.cached_property
    def split_sha256(self) -> str:
        """The manifest's hash: equal for equal splits, whatever the file's layout."""
        return hashlib.sha256(as_canonical_json(self.read_manifest()).encode()).hexdigest()


def dataset_names() -> tuple[str, ...]:
    """Return the public names of all data sets."""
    return member_names(__package__)


@functools.cache
def find_dataset(name: str, where: str = "dataset") -> Dataset:
    """Return the data set of that name.

    Raises:
        RequestError: There is none; the nearest names are given.
    """
    dataset: Dataset = member(__package__, name, where).DATASET
    return dataset


def parse_manifest(text: str) -> dict[str, Any]:
    """Return a split manifest from its JSON text."""
    manifest: dict[str, Any] = json.loads(text)
    return manifest
