"""A folder of things that took time to compute: each made once, shared by all processes of a node, removed by age.

An entry is a folder `<root>/<kind>/<key>`. It is written under another name and renamed when it is whole, while its
lock `<root>/<kind>/<key>.lock` is held alone, so one process makes it and the others wait. A killed process gives its
lock back and leaves only the unfinished folder, which the next one removes. Who uses an entry holds its lock shared,
and an entry in use is not removed.

An entry of several parts is made by all who want it: each part has a lock of its own, and whoever gets it writes that
part. They hold the entry's lock shared from the start. What a killed process had finished, the others keep.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import shutil
import uuid
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
_UNFINISHED = ".unfinished-"
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
class Parts:
    """How several processes make an entry together.

    Attributes:
        num_parts: Of about equal work.
        prepare: Fills the folder it is given with files that have their full length.
        write: Fills in the part of this number, from 0.
    """

    num_parts: int
    prepare: Callable[[Path], None]
    write: Callable[[Path, int], None]


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
        write: Fills the folder it is given.

    Raises:
        MissingError: The folder cannot be written, or the disk is full.
    """
    return _open_entry(kind, key, lambda folder, lock: _make_alone(folder, lock, description, write))


def open_entry_in_parts(kind: str, key: str, description: dict[str, Any], parts: Parts) -> HeldEntry:
    """Return an entry; where it is not there yet, all processes that want it make it together.

    Args:
        kind: What it is, such as `prefix`.
        key: Hash of everything its content follows from, the division into parts included.
        description: The same for people, as JSON values.
        parts: What there is to make.

    Raises:
        MissingError: The folder cannot be written, or the disk is full.
    """
    return _open_entry(kind, key, lambda folder, lock: _make_together(folder, description, parts))


def _open_entry(kind: str, key: str, make: Callable[[Path, IO[str]], None]) -> HeldEntry:
    folder = cache_root() / kind / key
    with _explained(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = _lock_path(folder).open("a+", encoding="utf-8")
        try:
            # A shared lock comes last: between letting go of the exclusive one and taking it, the entry may be pruned.
            while not _is_whole_and_shared(folder, lock):
                make(folder, lock)
        except BaseException:
            lock.close()
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


def _is_whole_and_shared(folder: Path, lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        logger.info("waiting for another process that writes %s", folder)
        fcntl.flock(lock, fcntl.LOCK_SH)
    return (folder / _DESCRIPTION).is_file()


def _make_alone(folder: Path, lock: IO[str], description: dict[str, Any], write: Callable[[Path], None]) -> None:
    fcntl.flock(lock, fcntl.LOCK_EX)
    if (folder / _DESCRIPTION).is_file():
        return
    _remove_unfinished_of(folder)
    unfinished = folder.with_name(f"{folder.name}{_UNFINISHED}{uuid.uuid4().hex[:8]}")
    unfinished.mkdir()
    try:
        write(unfinished)
        (unfinished / _DESCRIPTION).write_text(json.dumps(description, indent=2), encoding="utf-8")
        _sync(unfinished)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _make_together(folder: Path, description: dict[str, Any], parts: Parts) -> None:
    """Write the parts that nobody else writes, wait for the others, and let one process finish the entry."""
    joint = folder.with_name(f"{folder.name}{_UNFINISHED}{_boot_id()}")
    if not joint.is_dir():
        _prepare(folder, joint, parts)
    for is_patient in (False, True):
        for part in range(parts.num_parts):
            with _claimed(joint, str(part), is_patient) as is_mine:
                if is_mine:
                    parts.write(joint, part)
    with _claimed(joint, _END, is_patient=True) as is_mine:
        if is_mine:
            (joint / _DESCRIPTION).write_text(json.dumps(description, indent=2), encoding="utf-8")
            _sync(joint)
            _put_in_place(joint, folder)


def _put_in_place(joint: Path, folder: Path) -> None:
    """Give a whole entry its name, unless another machine, which shares the disk but no parts, was first."""
    try:
        joint.rename(folder)
    except OSError:
        if (folder / _DESCRIPTION).is_file():
            return
        shutil.rmtree(folder, ignore_errors=True)  # what a killed removal left
        joint.rename(folder)
    shutil.rmtree(folder / _PARTS, ignore_errors=True)


def _prepare(folder: Path, joint: Path, parts: Parts) -> None:
    """Make the folder that the parts are written into, unless another process makes it at the same time."""
    fresh = folder.with_name(f"{folder.name}{_UNFINISHED}{uuid.uuid4().hex[:8]}")
    try:
        (fresh / _PARTS).mkdir(parents=True)
        for name in (*map(str, range(parts.num_parts)), _END):
            (fresh / _PARTS / name).touch()
        parts.prepare(fresh)
        try:
            fresh.rename(joint)
        except OSError:
            if not joint.is_dir():
                raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


@contextlib.contextmanager
def _claimed(joint: Path, name: str, is_patient: bool) -> Iterator[bool]:
    """Hold a part, and tell whether it is still to be done; one that ends without an error is done for everyone.

    Not to be done is also what another process works on, unless this one is patient and waits for it.
    """
    try:
        file = (joint / _PARTS / name).open("r+b")
    except FileNotFoundError:  # the entry is finished
        yield False
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if is_patient else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        is_open = os.fstat(file.fileno()).st_size == 0
        yield is_open
        if is_open:
            file.write(b"done")


def _boot_id() -> str:
    """Return what tells this start of the system from others: after a crash a part may be called done and be lost."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "0"


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
        folder = unfinished.with_name(unfinished.name.partition(_UNFINISHED)[0])
        with _held_alone(folder) as is_held:
            if is_held:
                _remove_unfinished_of(folder)


def _remove_unfinished_of(folder: Path) -> None:
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
