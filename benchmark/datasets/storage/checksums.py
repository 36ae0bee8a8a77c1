"""Checksums written as `md5:HEX` or `sha256:HEX`, and the index that saves hashing unchanged files again."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

from benchmark.datasets.storage.places import data_root
from benchmark.errors import MissingError, RequestError

logger = logging.getLogger(__name__)


def checksum_of(path: Path, algorithm: str = "sha256") -> str:
    """Return a file's checksum as `algorithm:HEX`.

    Raises:
        MissingError: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False))
    except OSError as error:
        raise MissingError(f"{path}: the file cannot be read: {error.strerror or error}") from error
    return f"{algorithm}:{digest.hexdigest()}"


def require_checksum(path: Path, expected: str, stated_by: str) -> None:
    """Compare a file with its published checksum.

    Raises:
        RequestError: They differ.
        MissingError: The file cannot be read.
    """
    found = checksum_of(path, expected.partition(":")[0])
    if found != expected:
        rule = f"the checksum must be {expected}" + (f", as stated by {stated_by}" if stated_by else "")
        raise RequestError(str(path), found, rule, "The file is damaged or another one: remove it and fetch it again.")


class HashIndex:
    """Remembers the SHA-256 of files by size and time of change, so that a large folder is hashed once.

    A file rewritten with the same size and the same time of change would go unnoticed.
    """

    def __init__(self, place: Path) -> None:
        """Open the index of a folder or of a tar."""
        name = hashlib.sha256(str(place.resolve()).encode()).hexdigest()[:24]
        self._path = data_root() / "index" / f"{name}.json"
        self._entries: dict[str, list[int | str]] = _read_entries(self._path)
        self._has_new = False

    def sha256(self, path: Path) -> str:
        """Return a file's SHA-256, from the index where size and time of change are as they were.

        Raises:
            MissingError: The file cannot be read.
        """
        try:
            stat = path.stat()
        except OSError as error:
            raise MissingError(f"{path}: the file cannot be read: {error.strerror or error}") from error
        return self.remembered(str(path), stat, lambda: checksum_of(path).removeprefix("sha256:"))

    def remembered(self, name: str, stat: os.stat_result, compute: Callable[[], str]) -> str:
        """Return the hash known under a name while its file has this size and time of change; else compute it."""
        known = self._entries.get(name)
        if known and known[:2] == [stat.st_size, stat.st_mtime_ns]:
            return str(known[2])
        digest = compute()
        self._entries[name] = [stat.st_size, stat.st_mtime_ns, digest]
        self._has_new = True
        return digest

    def save(self) -> None:
        """Keep what was hashed; an index that cannot be written only costs time."""
        if not self._has_new:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            part = self._path.with_suffix(f".{os.getpid()}.part")
            part.write_text(json.dumps(self._entries), encoding="utf-8")
            part.replace(self._path)
        except OSError as error:
            logger.info("%s: the index of image hashes is not kept: %s", self._path, error)


def _read_entries(path: Path) -> dict[str, list[int | str]]:
    try:
        entries: dict[str, list[int | str]] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return entries
