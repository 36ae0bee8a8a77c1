"""The ways images lie in storage: an array, single files, a tar's members."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmark.datasets.reading.decoding import decode_image
from benchmark.errors import MissingError, RequestError

if TYPE_CHECKING:
    import PIL.Image

Items = TypeVar("Items", bound="StoredItems")


@dataclass(frozen=True)
class StoredItems(ABC):
    """What the kinds of items share.

    Attributes:
        identities: str array [N].
        labels: int64 array [N].
        content_sha256: Hash of the data behind them.
        storage: Where each image lies, one entry an image [N]; its type is the kind's.
    """

    identities: NDArray[np.str_]
    labels: NDArray[np.int64]
    content_sha256: str
    storage: Any

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    @abstractmethod
    def decode(self, row: int) -> PIL.Image.Image:
        """Return one image: RGB, upright, 8 bit."""


class ArrayItems(StoredItems):
    """Images of one size; `storage` is a uint8 array [N, height, width, 3]."""

    def decode(self, row: int) -> PIL.Image.Image:
        """Return one image."""
        from PIL import Image

        return Image.fromarray(np.ascontiguousarray(self.storage[row]))


class FileItems(StoredItems):
    """Images in a file each; `storage` is a str array [N] of their paths."""

    def decode(self, row: int) -> PIL.Image.Image:
        """Return one image.

        Raises:
            MissingError: The file is not there.
            RequestError: It is no readable image.
        """
        path = str(self.storage[row])
        return decode_image(read_bytes(path), path)


class TarItems(StoredItems):
    """Images in an uncompressed tar; `storage` is an object array [N] of `(tar, member, offset, bytes)`."""

    def decode(self, row: int) -> PIL.Image.Image:
        """Return one image.

        Raises:
            MissingError: The tar is not there.
            RequestError: The tar is truncated, or the member is no readable image.
        """
        path, member, offset, num_bytes = self.storage[row]
        return decode_image(read_bytes(path, offset, num_bytes), f"{path}: {member}")


def read_bytes(path: str | Path, offset: int = 0, num_bytes: int = -1) -> bytes:
    """Return a file's bytes, or a stretch of them.

    Raises:
        MissingError: The file is not there or may not be read.
        RequestError: It ends before the stretch does.
    """
    try:
        with Path(path).open("rb") as file:
            file.seek(offset)
            content = file.read(num_bytes)
    except OSError as error:
        raise MissingError(f"{path}: the image file cannot be read: {error.strerror or error}") from error
    if num_bytes >= 0 and len(content) < num_bytes:
        raise RequestError(str(path), f"{offset + len(content)} bytes", "the file is truncated", "Fetch it again.")
    return content


def subset(items: Items, rows: NDArray[np.int64]) -> Items:
    """Return the images of some rows, in that order."""
    return replace(
        items,
        identities=items.identities[rows],
        labels=items.labels[rows],
        storage=items.storage[rows],
    )


def joined(parts: Sequence[Items]) -> Items:
    """Return the images of several parts of one kind, one part after the other."""
    return replace(
        parts[0],
        identities=np.concatenate([part.identities for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        storage=np.concatenate([part.storage for part in parts]),
    )


def digest_of(*texts: str) -> str:
    """Return one SHA-256 over several texts."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()
