"""What every data set states and gives: its facts, a fixed split, and the images of a split."""

from __future__ import annotations

import functools
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmark.registry import member, member_names
from benchmark.spec import as_canonical_json

if TYPE_CHECKING:
    import PIL.Image

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


class ImageItems(Protocol):
    """The images of one split, in the manifest's order, each decoded when asked for, from any thread.

    Attributes:
        identities: str array [N]: names that stay the same whatever the split or order.
        labels: int64 array [N], in [0, number of classes).
        content_sha256: Hash of the data behind the images: the key of caches.
    """

    @property
    def identities(self) -> NDArray[np.str_]: ...

    @property
    def labels(self) -> NDArray[np.int64]: ...

    @property
    def content_sha256(self) -> str: ...

    def decode(self, row: int) -> PIL.Image.Image:
        """Return one image: RGB, upright, 8 bit."""
        ...


@dataclass(frozen=True)
class ArrayItems:
    """Images of one size in memory; `pixels` is a uint8 array [N, height, width, 3]."""

    identities: NDArray[np.str_]
    labels: NDArray[np.int64]
    content_sha256: str
    pixels: NDArray[np.uint8]

    def decode(self, row: int) -> PIL.Image.Image:
        """Return one image."""
        from PIL import Image

        return Image.fromarray(self.pixels[row])


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

    @abstractmethod
    def items(self, split: Split) -> ImageItems:
        """Return the images of one split, decoded one by one when asked for.

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
