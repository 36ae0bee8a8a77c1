"""Folders of classes, `train/[val/]test/CLASS/IMAGE`, on disk or in a tar: which images there are, by content."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from benchmark.datasets.reading.decoding import IMAGE_SUFFIXES
from benchmark.datasets.reading.items import FileItems, StoredItems, TarItems, read_bytes
from benchmark.datasets.storage.archives import tar_images
from benchmark.datasets.storage.checksums import HashIndex
from benchmark.errors import MissingError, Problem, RequestError

if TYPE_CHECKING:
    from benchmark.datasets.contract import Split

logger = logging.getLogger(__name__)

SPLIT_FOLDERS: Mapping[str, Split] = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
LAYOUT = "the layout is train/CLASS/IMAGE, test/CLASS/IMAGE and, if there is one, val/CLASS/IMAGE"
SHOWN_NAMES = 10


@dataclass(frozen=True)
class StoredImage:
    """One image file.

    Attributes:
        identity: Its path below the folder that holds `train`, with `/`.
        content_sha256: Hash of its bytes.
        place: What its kind of items decodes from: a path, or `(tar, member, offset, bytes)`.
    """

    identity: str
    content_sha256: str
    place: str | tuple[str, str, int, int]

    @property
    def split(self) -> Split:
        """The split its first folder names."""
        return SPLIT_FOLDERS[PurePosixPath(self.identity).parts[0]]

    @property
    def class_name(self) -> str:
        """The class its second folder names."""
        return PurePosixPath(self.identity).parts[1]


@dataclass(frozen=True)
class ImageTree:
    """All images of a folder or tar.

    Attributes:
        place: The folder or tar.
        class_names: Sorted, the same in every split.
        images: By split, in the order of identities.
    """

    place: str
    class_names: tuple[str, ...]
    images: Mapping[Split, Sequence[StoredImage]]

    @property
    def content_sha256(self) -> str:
        """One hash over all identities and contents."""
        lines = (f"{image.content_sha256} {image.identity}" for images in self.images.values() for image in images)
        return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()

    def items(self, split: Split) -> StoredItems:
        """Return one split's images in the order of their identities."""
        images = self.images[split]
        label_of = {name: label for label, name in enumerate(self.class_names)}
        identities = np.array([image.identity for image in images], dtype=np.str_)
        labels = np.array([label_of[image.class_name] for image in images], dtype=np.int64)
        if isinstance(images[0].place, str):
            paths = np.array([image.place for image in images], dtype=np.str_)
            return FileItems(identities, labels, self.content_sha256, paths)
        members = np.empty(len(images), dtype=object)
        members[:] = [image.place for image in images]
        return TarItems(identities, labels, self.content_sha256, members)


def read_tree(place: Path) -> ImageTree:
    """Find and hash the images of a folder or a tar.

    Raises:
        MissingError: There is no such folder or tar.
        RequestError: A split is missing, a class is empty, the classes differ between splits, or the tar is refused.
    """
    if place.is_dir():
        names, images = _files_below(place)
    elif place.is_file():
        names, images = _members_of(place)
    else:
        raise MissingError(f"{place}: there is no such folder or tar; {LAYOUT}")
    by_split: dict[Split, list[StoredImage]] = defaultdict(list)
    for image in sorted(images, key=lambda image: image.identity):
        by_split[image.split].append(image)
    class_names = _checked_classes(place, names, by_split)
    return ImageTree(str(place), class_names, dict(by_split))


def _files_below(root: Path) -> tuple[set[tuple[str, str]], list[StoredImage]]:
    """Return the (split, class) folders there are and the images in them."""
    index, images, folders, others = HashIndex(root), [], set(), []
    for split_folder in sorted(path for path in root.iterdir() if path.name in SPLIT_FOLDERS and path.is_dir()):
        for class_folder in sorted(path for path in split_folder.iterdir() if path.is_dir() and not _is_hidden(path)):
            folders.add((split_folder.name, class_folder.name))
            for path in _walk(class_folder):
                if path.suffix.lower() in IMAGE_SUFFIXES:
                    identity = path.relative_to(root).as_posix()
                    images.append(StoredImage(identity, index.sha256(path), str(path)))
                else:
                    others.append(str(path))
    index.save()
    _warn_of_others(root, others)
    return folders, images


def _walk(folder: Path) -> Iterable[Path]:
    for parent, folders, names in os.walk(folder, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent) / name for name in sorted(names) if not name.startswith("."))


def _members_of(path: Path) -> tuple[set[tuple[str, str]], list[StoredImage]]:
    """Return the same from a tar, whose members may lie below one common folder."""
    images, folders, others = [], set(), []
    members, index, stat = tar_images(path), HashIndex(path), path.stat()
    skipped = _common_depth([PurePosixPath(member.name).parts for member in members])
    for member in members:
        parts = PurePosixPath(member.name).parts[skipped:]
        if len(parts) < 3 or parts[0] not in SPLIT_FOLDERS or any(part.startswith(".") for part in parts):
            continue
        folders.add((parts[0], parts[1]))
        if PurePosixPath(member.name).suffix.lower() not in IMAGE_SUFFIXES:
            others.append(member.name)
            continue
        place = (str(path), member.name, member.offset_data, member.size)
        digest = index.remembered(f"{path}!{member.name}", stat, functools.partial(_member_sha256, place))
        images.append(StoredImage("/".join(parts), digest, place))
    index.save()
    _warn_of_others(path, others)
    return folders, images


def _member_sha256(place: tuple[str, str, int, int]) -> str:
    path, _, offset, num_bytes = place
    return hashlib.sha256(read_bytes(path, offset, num_bytes)).hexdigest()


def _common_depth(paths: Sequence[tuple[str, ...]]) -> int:
    """Return how many leading folders lie above `train` and `test`: 0, or 1 for a tar of one folder."""
    heads = {parts[0] for parts in paths if parts and not parts[0].startswith(".")}
    return 1 if len(heads) == 1 and not heads & set(SPLIT_FOLDERS) else 0


def _checked_classes(
    place: Path, folders: set[tuple[str, str]], by_split: Mapping[Split, Sequence[StoredImage]]
) -> tuple[str, ...]:
    """Return the sorted class names, the same in every split."""
    for split in ("train", "test"):
        if split not in {SPLIT_FOLDERS[folder] for folder, _ in folders}:
            raise RequestError(str(place), sorted({folder for folder, _ in folders}), f"there is no {split}; {LAYOUT}")
    filled = {tuple(PurePosixPath(image.identity).parts[:2]) for images in by_split.values() for image in images}
    empty = sorted(folders - filled)
    if empty:
        hint = "Add images or remove the folder."
        raise RequestError.of(
            [Problem(f"{place}/{'/'.join(names)}", "no image", "a class must not be empty", hint) for names in empty]
        )
    return _same_classes(place, folders)


def _same_classes(place: Path, folders: set[tuple[str, str]]) -> tuple[str, ...]:
    classes: dict[Split, set[str]] = defaultdict(set)
    for folder, name in folders:
        classes[SPLIT_FOLDERS[folder]].add(name)
    expected = classes["train"]
    for split, names in classes.items():
        if names != expected:
            only_train, only_here = sorted(expected - names), sorted(names - expected)
            found = f"only in train: {_shown(only_train)}; only in {split}: {_shown(only_here)}"
            raise RequestError(str(place), found, f"train and {split} must have the same classes")
    if len(expected) < 2:
        raise RequestError(str(place), sorted(expected), "there must be two classes or more")
    return tuple(sorted(expected))


def _warn_of_others(place: Path, others: Sequence[str]) -> None:
    if others:
        logger.warning("%s: %d files are not images and are left out: %s", place, len(others), _shown(others))


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".")


def _shown(names: Sequence[str]) -> str:
    """Return names for a message: the first ones and how many more there are."""
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return (", ".join(names[:SHOWN_NAMES]) + more) or "none"
