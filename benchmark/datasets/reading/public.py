"""The base of the public data sets: their folder, the published parts, and the fixed split made of these."""

from __future__ import annotations

import dataclasses
import functools
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.datasets.contract import (
    UNKNOWN,
    Dataset,
    DatasetInfo,
    ImageItems,
    Split,
    SplitChoice,
    refuse_split_options,
)
from benchmark.datasets.reading.items import FileItems, StoredItems, digest_of, joined, subset
from benchmark.datasets.reading.seal import refuse_when_sealed
from benchmark.datasets.reading.splitting import (
    DEFAULT_VALIDATION_FRACTION,
    SPLITS,
    TEST_FRACTION_OF_UNSPLIT,
    hold_out,
    paper_counts,
    paper_split,
    split_counts,
)
from benchmark.datasets.storage.pins import pinned_checksums
from benchmark.datasets.storage.places import data_root
from benchmark.errors import AdapterTuneError, MissingError, RequestError
from benchmark.spec import as_canonical_json

SPLIT_RULE = "stratified-by-identity-hash-1"
"""Name of the fixed rule; another one would need another name, since trials' identities hold it."""


class PublicDataset(Dataset):
    """A data set that its publisher offers for download, in the layout that torchvision reads."""

    folder: str = ""
    """Name of its folder below the data root, when it is not the data set's own name."""

    presets: tuple[str, ...] = ("fixed", "paper")
    """The split presets it knows."""

    def __init__(self, root: str | None = None, choice: SplitChoice | None = None) -> None:
        """Name where the data lie; nothing is read before it is asked for."""
        self._root, self._choice = root, choice or SplitChoice()
        self.info = dataclasses.replace(self.facts, num_images=self._expected_counts())

    @property
    def facts(self) -> DatasetInfo:
        """The facts under the fixed split."""
        return type(self).info

    def copy_at(self, root: str | None, choice: SplitChoice) -> PublicDataset:
        """Return this data set read from elsewhere or split otherwise."""
        return type(self)(root, choice)

    @abstractmethod
    def read_published(self) -> dict[str, StoredItems]:
        """Return the published parts: `train` and `test`, perhaps `validation`; or `all`."""

    def configured(self, root: str | None, choice: SplitChoice, where: str) -> Dataset:
        """Return this data set read from `root` with another split.

        Raises:
            RequestError: It does not know the preset, or ships validation images and is asked to hold some out.
        """
        info = self.facts
        if choice.preset not in self.presets:
            valid = ", ".join(self.presets)
            raise RequestError(f"{where}.split", choice.preset, f"{info.name} has the splits {valid}")
        if choice.validation_fraction is not None and choice.preset != "fixed":
            rule = f"the preset {choice.preset!r} sets its own share"
            raise RequestError(f"{where}.validation_fraction", choice.validation_fraction, rule, "Leave it out.")
        if "validation" in info.published_images and choice.preset == "fixed":
            refuse_split_options(info.name, choice, where, "ships its own validation images")
        return self.copy_at(root, choice)

    @property
    def root(self) -> Path:
        """The folder the data lie in."""
        return Path(self._root) if self._root else data_root() / (self.folder or self.facts.name)

    @functools.cached_property
    def split_sha256(self) -> str:
        """The hash of the split's rule: computed without the data, which the published counts and files pin."""
        rule = {
            "dataset": self.info.name,
            "revision": self.info.revision,
            "published": dict(self.info.published_images),
        }
        return digest_of(as_canonical_json({**rule, **self._rule()}))

    def read_manifest(self) -> dict[str, Any]:
        """Return the split with the images' names in the published files.

        Raises:
            MissingError: The data are not here.
        """
        return {
            "dataset": self.info.name,
            "classes": list(self.info.class_names) or self.info.num_classes,
            "rule": self._rule(),
            "splits": {split: self._splits[split].identities.tolist() for split in SPLITS},
        }

    def items(self, split: Split) -> ImageItems:
        """Return one split's images.

        Raises:
            MissingError: The data are not here; it says which file to put where.
            RequestError: They are damaged or not complete.
        """
        refuse_when_sealed(self.info.name, split)
        return self._splits[split]

    def content_sha256(self, parts: Mapping[str, StoredItems]) -> str:
        """Return a hash that stands for the published files: of their checksums, published or pinned.

        Files put here by hand with no checksum known anywhere are told by the images' names and sizes.
        """
        pins = pinned_checksums(self.root)
        checksums = {file.name: file.checksum or pins.get(file.name) for file in self.info.files}
        texts = [f"{name} {checksum or UNKNOWN}" for name, checksum in checksums.items()]
        if None in checksums.values():
            names = [name for part in parts.values() for name in part.identities.tolist()]
            texts += [f"{name} {(self.root / name).stat().st_size}" for name in names]
        return digest_of(self.info.name, str(self.info.revision), *texts)

    def how_to_get(self) -> str:
        """Return which file to put where, for people without a network."""
        files = "; ".join(
            f"{file.name} (from {file.url or file.page}, checksum {file.checksum or UNKNOWN})"
            for file in self.info.files
        )
        return f"run `adaptertune data prepare {self.info.name}`; offline, put into {self.root} first: {files}"

    def missing(self, detail: object) -> MissingError:
        """Return the error for data that are not here."""
        reason = f" ({detail})" if detail else ""
        return MissingError(
            f"{self.info.name}: its data are not in {self.root}{reason}. To get them: {self.how_to_get()}"
        )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Turn what a reader raises into an error that names the folder and the remedy."""
        try:
            yield
        except AdapterTuneError:
            raise
        except (OSError, RuntimeError) as error:
            raise self.missing(error) from error
        except Exception as error:
            rule = f"the files of {self.info.name} are damaged: {type(error).__name__}: {error}"
            hint = f"Remove them and run `adaptertune data prepare {self.info.name}` again."
            raise RequestError(str(self.root), None, rule, hint) from error

    @functools.cached_property
    def _splits(self) -> Mapping[Split, StoredItems]:
        if not self.root.is_dir():
            raise self.missing("there is no such folder")
        with self._reading():
            parts = self.read_published()
        found, published = {name: len(part) for name, part in parts.items()}, dict(self.info.published_images)
        if found != published:
            rule = f"{self.info.name} has {published} images, as stated by {self.info.counts_source}"
            hint = f"Files are missing or doubled: run `adaptertune data prepare {self.info.name}` again."
            raise RequestError(str(self.root), found, rule, hint)
        content, splits = self.content_sha256(parts), self._split(parts)
        return {split: dataclasses.replace(items, content_sha256=content) for split, items in splits.items()}

    def _split(self, parts: dict[str, StoredItems]) -> dict[Split, StoredItems]:
        if self._choice.preset == "paper":
            train = joined([parts["train"], parts["validation"]]) if "validation" in parts else parts["train"]
            kept, held_out = paper_split(len(train), self._choice.seed)
            return {"train": subset(train, kept), "validation": subset(train, held_out), "test": parts["test"]}
        if "all" in parts:
            everything = parts["all"]
            kept, tested = hold_out(everything.identities, everything.labels, TEST_FRACTION_OF_UNSPLIT, "test")
            parts = {"train": subset(everything, kept), "test": subset(everything, tested)}
        if "validation" in parts:
            return {split: parts[split] for split in SPLITS}
        train = parts["train"]
        kept, held_out = hold_out(train.identities, train.labels, self._fraction, "validation")
        return {"train": subset(train, kept), "validation": subset(train, held_out), "test": parts["test"]}

    @property
    def _fraction(self) -> float:
        return self._choice.validation_fraction or DEFAULT_VALIDATION_FRACTION

    def _rule(self) -> dict[str, Any]:
        """Return what decides which image is where."""
        if self._choice.preset == "paper":
            return {"rule": "paper: torch.randperm by the run's seed, a tenth held out"}
        if "validation" in self.facts.published_images:
            return {"rule": "published"}
        return {"rule": SPLIT_RULE, "validation_fraction": self._fraction}

    def _expected_counts(self) -> dict[Split, int]:
        published = self.facts.published_images
        if self._choice.preset == "paper":
            return paper_counts(published)
        return split_counts(published, self._fraction)


class ImageFilesDataset(PublicDataset):
    """A public data set whose images are files; each part is a list of (path, label)."""

    @abstractmethod
    def list_published(self) -> dict[str, list[tuple[Path, int]]]:
        """Return the image files of each published part with their labels."""

    def read_published(self) -> dict[str, StoredItems]:
        """Return the published parts; an image's identity is its path below the data set's folder."""
        return {name: self._as_items(images) for name, images in self.list_published().items()}

    def _as_items(self, images: list[tuple[Path, int]]) -> StoredItems:
        paths = [path for path, _ in images]
        identities = np.array([path.relative_to(self.root).as_posix() for path in paths], dtype=np.str_)
        labels = np.array([label for _, label in images], dtype=np.int64)
        return FileItems(identities, labels, "", np.array([str(path) for path in paths], dtype=np.str_))


def numbered(part: str, count: int) -> NDArray[np.str_]:
    """Return the identities of images that have none but their number: `train/00000`, ..."""
    return np.array([f"{part}/{row:05d}" for row in range(count)], dtype=np.str_)
