"""A folder of things that took time to compute: each made once, shared by all processes of a node, removed by age.

An entry is a folder `<root>/<kind>/<key>`. It is written under another name and renamed when it is whole. All that want
it make it together: an entry has one part or several, each with a lock of its own, and whoever gets that writes the
part. What a killed process had finished, the others keep; what it had begun is written again. Who makes or uses an
entry holds its lock `<root>/<kind>/<key>.lock` shared, and what is held is not removed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from benchmark.errors import MissingError, RequestError

ROOT_VARIABLE = "ADAPTERTUNE_CACHE"
CAP_VARIABLE = "ADAPTERTUNE_CACHE_GB"
DEFAULT_CAP_GB = 200.0
BYTES_PER_GB = 10**9

_DESCRIPTION = "entry.json"
_UNFINISHED = ".unfinished"
_PARTS, _END = "parts", "end"
_SPARE_BYTES = 10**9

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CachedEntry:
    """One entry on the disk.

    Attributes:
        kind: What it is, such as `decoded`.
        key: Hash of what it was made from.
        folder: Where it lies.
        num_bytes: Its size.
        used_at: When it was last opened, in seconds since 1970.
        description: What it was made from, for people.
    """

    kind: str
    key: str
    folder: Path
    num_bytes: int
    used_at: float
    description: dict[str, Any]


@dataclass(frozen=True)
class HeldEntry:
    """An entry in use: it stays on the disk while this object, or whoever shares `lock`, lives."""

    folder: Path
    lock: IO[str]


class HeldMap(np.memmap[Any, np.dtype[np.uint8]]):
    """A mapped file that keeps its cache entry in use for as long as the map lives."""

    held: HeldEntry


@dataclass(frozen=True)
class Pruned:
    """What a pruning did: what it removed, what it had to keep because it is in use, and the bytes that remain."""

    removed: list[CachedEntry]
    in_use: list[CachedEntry]
    num_bytes: int


def cache_root() -> Path:
    """Return `$ADAPTERTUNE_CACHE`, else `~/.cache/adaptertune`."""
    return Path(os.environ.get(ROOT_VARIABLE) or Path.home() / ".cache" / "adaptertune")


def cap_bytes() -> int:
    """Return the largest size of all caches together: `$ADAPTERTUNE_CACHE_GB`, else 200 GB.

    Raises:
        RequestError: The variable is not a number from 0.
    """
    text = os.environ.get(CAP_VARIABLE) or str(DEFAULT_CAP_GB)
    try:
        cap_gb = float(text)
    except ValueError:
        cap_gb = -1.0
    if not 0 <= cap_gb < float("inf"):
        raise RequestError(CAP_VARIABLE, text, "must be a size in GB, a number from 0", "For example: 50.")
    return int(cap_gb * BYTES_PER_GB)


def open_entry(kind: str, key: str, description: dict[str, Any], write: Callable[[Path], None]) -> HeldEntry:
    """Return an entry, made first where it is not there yet; other processes that want it wait meanwhile.

    Args:
        kind: What it is, such as `decoded`.
        key: Hash of everything its content follows from.
        description: The same for people, as JSON values.
        write: Fills the folder it is given; files that a killed process left half written may be there.

    Raises:
        MissingError: The folder cannot be written, or the disk is full.
    """
    return open_entry_in_parts(kind, key, description, 1, lambda folder, part: write(folder))


def open_entry_in_parts(
    kind: str, key: str, description: dict[str, Any], num_parts: int, write: Callable[[Path, int], None]
) -> HeldEntry:
    """Return an entry; where it is not there yet, all processes that want it make it together.

    Args:
        kind: What it is, such as `prefix`.
        key: Hash of everything its content follows from, the division into parts included.
        description: The same for people, as JSON values.
        num_parts: How many there are, of about equal work.
        write: Fills in the part of this number, from 0, in the folder it is given; others write theirs meanwhile.

    Raises:
        MissingError: The folder cannot be written, or the disk is full.
    """
    folder = cache_root() / kind / key
    with _explained(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = _lock_path(folder).open("a+", encoding="utf-8")
        try:
            fcntl.flock(lock, fcntl.LOCK_SH)
            while not _is_whole(folder):
                _make(folder, description, num_parts, write)
        except BaseException:
            lock.close()
            _remove_unfinished_of(folder)
            raise
    os.utime(folder / _DESCRIPTION)
    return HeldEntry(folder, lock)


def has_room(num_bytes: int) -> bool:
    """Return whether the disk has room for an entry of so many bytes, with some to spare."""
    root = cache_root()
    existing = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    return shutil.disk_usage(existing).free > num_bytes + _SPARE_BYTES


def mapped_bytes(held: HeldEntry, name: str) -> HeldMap:
    """Return the bytes [N] of a file of an entry, mapped into memory; the entry stays in use while they are."""
    # Copy-on-write, since torch has no read-only tensors: nothing writes, and nothing could reach the file.
    buffer = HeldMap(held.folder / name, dtype=np.uint8, mode="c")
    buffer.held = held
    return buffer


def list_entries() -> list[CachedEntry]:
    """Return the entries of every kind, the one used longest ago first."""
    paths = cache_root().glob(f"*/*/{_DESCRIPTION}")
    entries = [_read(path.parent) for path in paths if _UNFINISHED not in path.parent.name]
    return sorted((entry for entry in entries if entry is not None), key=lambda entry: (entry.used_at, entry.key))


def prune(largest_bytes: int) -> Pruned:
    """Remove the entries used longest ago until the rest fit, and what killed processes left; spare those in use."""
    _remove_unfinished()
    entries = list_entries()
    num_bytes = sum(entry.num_bytes for entry in entries)
    removed, in_use = [], []
    for entry in entries:
        if num_bytes <= largest_bytes:
            break
        if _remove_unless_used(entry.folder):
            removed.append(entry)
            num_bytes -= entry.num_bytes
        else:
            in_use.append(entry)
    return Pruned(removed, in_use, num_bytes)


def _is_whole(folder: Path) -> bool:
    return (folder / _DESCRIPTION).is_file()


def _make(folder: Path, description: dict[str, Any], num_parts: int, write: Callable[[Path, int], None]) -> None:
    """Write the parts that nobody else writes, wait for the others, and let one process finish the entry."""
    unfinished = folder.with_name(f"{folder.name}{_UNFINISHED}")
    (unfinished / _PARTS).mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):  # finished meanwhile
        for name in (*map(str, range(num_parts)), _END):
            (unfinished / _PARTS / name).touch()
    if _is_whole(folder):
        return
    for is_patient in (False, True):
        for part in range(num_parts):
            with _claimed(unfinished, str(part), is_patient) as is_mine:
                if is_mine:
                    write(unfinished, part)
                    _sync(unfinished)  # before it is called done
    with _claimed(unfinished, _END, is_patient=True) as is_mine:
        if is_mine:
            (unfinished / _DESCRIPTION).write_text(json.dumps(description, indent=2), encoding="utf-8")
            _sync(unfinished)
            if not _is_whole(folder):
                shutil.rmtree(folder, ignore_errors=True)  # what a killed removal left
                unfinished.rename(folder)
                shutil.rmtree(folder / _PARTS, ignore_errors=True)


@contextlib.contextmanager
def _claimed(unfinished: Path, name: str, is_patient: bool) -> Iterator[bool]:
    """Hold a part, and tell whether it is still to be done; one that ends without an error is done for everyone.

    Not to be done is also what another process works on, unless this one is patient and waits for it.
    """
    try:
        file = (unfinished / _PARTS / name).open("r+b")
    except FileNotFoundError:  # the entry is finished
        yield False
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if is_patient else fcntl.LOCK_NB))
        except BlockingIOError:
            logger.info("another process writes part %s of %s", name, unfinished)
            yield False
            return
        is_open = os.fstat(file.fileno()).st_size == 0
        yield is_open
        if is_open:
            file.write(b"done")


def _sync(folder: Path) -> None:
    """Bring a folder's bytes to the disk before its name says that it is whole."""
    for path in (*folder.iterdir(), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove_unfinished() -> None:
    for unfinished in cache_root().glob(f"*/*{_UNFINISHED}*"):
        _remove_unfinished_of(unfinished.with_name(unfinished.name.partition(_UNFINISHED)[0]))


def _remove_unfinished_of(folder: Path) -> None:
    """Remove what nobody works on any more."""
    with _held_alone(folder) as is_held:
        if is_held:
            for unfinished in folder.parent.glob(f"{folder.name}{_UNFINISHED}*"):
                shutil.rmtree(unfinished, ignore_errors=True)


def _remove_unless_used(folder: Path) -> bool:
    with _held_alone(folder) as is_held:
        if is_held:
            # The description goes first: an entry without one counts as absent, should this process be killed here.
            (folder / _DESCRIPTION).unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
        return is_held


@contextlib.contextmanager
def _held_alone(folder: Path) -> Iterator[bool]:
    """Hold an entry's lock alone, where nobody else holds it; the lock's file stays, as others may wait on it."""
    with _lock_path(folder).open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _lock_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _read(folder: Path) -> CachedEntry | None:
    """Return what lies in a folder; none where it was removed meanwhile."""
    try:
        description = json.loads((folder / _DESCRIPTION).read_text(encoding="utf-8"))
        num_bytes = sum(path.stat().st_size for path in folder.iterdir())
        used_at = (folder / _DESCRIPTION).stat().st_mtime
    except (OSError, ValueError):
        return None
    return CachedEntry(folder.parent.name, folder.name, folder, num_bytes, used_at, description)


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turn a disk that is full or may not be written into what the user can do about it."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EPERM):
            raise
        advice = f"make room there (adaptertune cache prune), or name another folder in {ROOT_VARIABLE}"
        raise MissingError(f"the cache folder {folder} cannot be written: {error.strerror}; {advice}") from error
