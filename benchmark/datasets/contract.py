"""What every data set states and gives: its facts, a fixed split, and the images of a split.

How a split enters a trial's identity: `Dataset.split_sha256` is the hash of the manifest itself where the manifest is
in the package or made from local files (`digits`, `image_folder`, `hf`: then every image's content hash is in it), and
the hash of the *rule* that makes the manifest for public sets (name, revision, published counts, fractions). So a
study on public sets is expanded without their data. `Dataset.manifest_sha256` is always the manifest's own hash.
"""

from __future__ import annotations

import functools
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmark.datasets.reading.splitting import DEFAULT_VALIDATION_FRACTION, Split, split_counts
from benchmark.errors import RequestError
from benchmark.registry import member, member_names
from benchmark.spec import DatasetSpec, SplitPreset, as_canonical_json

if TYPE_CHECKING:
    import PIL.Image

UNKNOWN = "unknown"
"""What listings show for a fact that no public source states."""


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
        """Return one image: RGB, upright, 8 bit.

        Raises:
            MissingError: Its file is not there any more.
            RequestError: Its file is no readable image; the error names it.
        """
        ...


@dataclass(frozen=True)
class SourceFile:
    """A file that a data set is made of, as its publisher offers it.

    Attributes:
        name: File name in the data set's folder.
        url: Where it is downloaded from; none where it can only be fetched by hand.
        checksum: `md5:HEX` or `sha256:HEX`; none where no public source states one. Then the first download's is
            pinned.
        checksum_source: Who states the checksum.
        page: Where a person fetches it, when there is no `url`.
    """

    name: str
    url: str | None
    checksum: str | None
    checksum_source: str = ""
    page: str = ""


@dataclass(frozen=True)
class DatasetInfo:
    """A data set's facts.

    Attributes:
        name: Public name, equal to the file's name.
        title: Name for people.
        class_names: One a class, in the labels' order; empty where only the data state them.
        licence: Terms of use.
        source: Where it comes from, and what to cite.
        flips_keep_labels: Whether a mirrored image still shows its class; digits and signs do not; none: not known.
        num_images: Images of each split; follows from `published_images` when not given.
        num_classes: Follows from `class_names` when not given.
        revision: Raised when the numbers obtained on it change.
        files: What its publisher offers; empty for data in the package or of the user.
        published_images: Images of each published part: `train`, `validation`, `test`, or `all` for an unsplit set.
        counts_source: Who states the counts.
        split_note: How the splits are made, for people.
    """

    name: str
    title: str
    class_names: tuple[str, ...]
    licence: str
    source: str
    flips_keep_labels: bool | None
    num_images: Mapping[Split, int] = field(default_factory=dict)
    num_classes: int = 0
    revision: int = 1
    files: tuple[SourceFile, ...] = ()
    published_images: Mapping[str, int] = field(default_factory=dict)
    counts_source: str = ""
    split_note: str = ""

    def __post_init__(self) -> None:
        """Fill in the counts that follow from others."""
        if not self.num_classes:
            object.__setattr__(self, "num_classes", len(self.class_names))
        if not self.num_images and self.published_images:
            counts = split_counts(self.published_images, DEFAULT_VALIDATION_FRACTION)
            object.__setattr__(self, "num_images", counts)


@dataclass(frozen=True)
class SplitChoice:
    """Which of a data set's splits is asked for.

    Attributes:
        preset: `fixed`: independent of the run's seed; `paper`: as the released code, dependent on it; `vtab_1000`:
            VTAB-1k's 1,000 training images. (`train_and_validation` is made of `fixed`: see `reading.joining`.)
        validation_fraction: Share of the training images held out; none for the data set's own.
        seed: The run's seed; read by `paper` alone.
    """

    preset: SplitPreset = "fixed"
    validation_fraction: float | None = None
    seed: int = 0


class Dataset(ABC):
    """A data set with a fixed split, independent of any trial's seed."""

    info: DatasetInfo

    @abstractmethod
    def read_manifest(self) -> dict[str, Any]:
        """Return the split manifest: `dataset`, `classes`, and the image identities of each of `splits`.

        Raises:
            MissingError: The data are needed for it and are not here.
        """

    @abstractmethod
    def items(self, split: Split) -> ImageItems:
        """Return the images of one split, decoded one by one when asked for.

        Raises:
            MissingError: The data are not here; it says which file to put where.
        """

    def load(self, split: Split) -> LabelledImages:
        """Return the images of one split as one array, for sets that are small and of one size.

        Raises:
            MissingError: The data are not here.
            RequestError: The images have several sizes.
        """
        items = self.items(split)
        images = [np.asarray(items.decode(row)) for row in range(len(items.labels))]
        shapes = {image.shape for image in images}
        if len(shapes) > 1:
            rule = "its images have several sizes, so they do not fit one array"
            raise RequestError(f"dataset {self.info.name}", sorted(shapes)[:3], rule, "Read them with `items`.")
        return LabelledImages(items.identities, np.stack(images), items.labels)

    def configured(self, root: str | None, choice: SplitChoice, where: str) -> Dataset:
        """Return this data set read from `root` with another split.

        Raises:
            RequestError: It has neither; this default is for sets in the package.
        """
        if root is not None:
            raise RequestError(f"{where}.root", root, f"{self.info.name} is in the package", "Leave `root` out.")
        refuse_split_options(self.info.name, choice, where, "has one fixed split")
        return self

    @functools.cached_property
    def manifest_sha256(self) -> str:
        """The manifest's hash: equal for equal splits, whatever the file's layout."""
        return hashlib.sha256(as_canonical_json(self.read_manifest()).encode()).hexdigest()

    @functools.cached_property
    def split_sha256(self) -> str:
        """What a trial's identity holds of the split: the manifest's hash, or its rule's; see the module."""
        return self.manifest_sha256


def refuse_split_options(name: str, choice: SplitChoice, where: str, reason: str) -> None:
    """Refuse another split than the fixed one.

    Raises:
        RequestError: `choice` asks for one.
    """
    if choice.validation_fraction is not None:
        found = choice.validation_fraction
        raise RequestError(f"{where}.validation_fraction", found, f"{name} {reason}", "Leave it out.")
    if choice.preset != "fixed":
        raise RequestError(f"{where}.split", choice.preset, f"{name} {reason}", "Use `fixed`.")


def dataset_names() -> tuple[str, ...]:
    """Return the public names of all data sets."""
    return member_names(__package__)


def name_and_root(name: str, root: str | None, where: str = "dataset") -> tuple[str, str | None]:
    """Split `image_folder:DIR` and `hf:NAME` into the data set's name and what it is read from.

    A path becomes absolute, since workers run in another folder.

    Raises:
        RequestError: The place is given twice or is empty.
    """
    kind, separator, place = name.partition(":")
    if not separator:
        return name, _absolute(kind, root) if root else root
    if root is not None and root != place:
        raise RequestError(f"{where}.root", root, f"the name {name!r} holds a place already", "Give one of the two.")
    if not place:
        raise RequestError(where, name, f"{kind!r} needs a place after the colon", f"Such as {kind}:path/to/images.")
    return kind, _absolute(kind, place)


def _absolute(kind: str, place: str) -> str:
    """Return a path as an absolute one; a name on a hub stays as it is."""
    path = Path(place).expanduser()
    return place if kind == "hf" and not path.exists() else str(path.absolute())


def find_dataset(
    name: str,
    where: str = "dataset",
    root: str | None = None,
    validation_fraction: float | None = None,
    split: SplitPreset = "fixed",
    seed: int = 0,
) -> Dataset:
    """Return the data set of that name: one object for one split, so that what is read of it serves every seed.

    Args:
        name: A public name, `image_folder:DIR`, `image_folder:FILE.tar` or `hf:NAME`.
        where: Path of the field that holds the name, for errors.
        root: Folder of the data; default: below the data root (`benchmark.datasets.storage.places`).
        validation_fraction: Share of the training images held out, where the data set ships no validation images.
        split: Preset of the split.
        seed: The run's seed, read by the preset `paper` alone.

    Raises:
        RequestError: There is none, and the nearest names are given; or it refuses an option.
    """
    return _found(name, where, root, SplitChoice(split, validation_fraction, seed if split == "paper" else 0))


@functools.cache
def _found(name: str, where: str, root: str | None, choice: SplitChoice) -> Dataset:
    if choice.preset == "train_and_validation":
        from benchmark.datasets.reading.joining import TrainAndValidation

        return TrainAndValidation(_found(name, where, root, replace(choice, preset="fixed")))
    kind, place = name_and_root(name, root, where)
    dataset: Dataset = member(__package__, kind, where).DATASET
    if place is None and choice == SplitChoice():
        return dataset
    return dataset.configured(place, choice, where)


def open_dataset(spec: DatasetSpec, seed: int = 0) -> Dataset:
    """Return a trial's data set.

    Args:
        spec: The trial's `dataset`.
        seed: The trial's seed, which the preset `paper` splits by.

    Raises:
        MissingError: Its data are needed and are not here.
        RequestError: The data or the split rule are others than when the trial was planned.
    """
    dataset = find_dataset(spec.name, "dataset", spec.root, spec.validation_fraction, spec.split, seed)
    if dataset.split_sha256 != spec.split_sha256:
        rule = f"the trial was planned on the split {spec.split_sha256[:12]}"
        hint = "The images or the split rule changed since: plan the study again."
        raise RequestError(f"dataset {spec.root or spec.name}", dataset.split_sha256[:12], rule, hint)
    return dataset


def parse_manifest(text: str) -> dict[str, Any]:
    """Return a split manifest from its JSON text."""
    manifest: dict[str, Any] = json.loads(text)
    return manifest


def write_manifest(dataset: Dataset, path: Path) -> None:
    """Write a data set's split manifest with its hash as JSON."""
    document = {**dataset.read_manifest(), "sha256": dataset.manifest_sha256}
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
