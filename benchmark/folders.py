"""Folders: those that results go to, checked before the work that makes them, and temporary ones."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmark.errors import RequestError

TEMPORARY_PREFIX = "adaptertune-"
OWNER_FILE = "owner.json"
"""In a temporary folder: which process made it, so that the next run can tell what a killed one has left."""


def claim(folder: Path) -> None:
    """Write down that this process made a temporary folder."""
    pid = os.getpid()
    owner = {"pid": pid, "start_ticks": _start_ticks(pid), **_surroundings()}
    (folder / OWNER_FILE).write_text(json.dumps(owner))


def is_left_over(owner_file: Path) -> bool:
    """Return whether the process that claimed a folder has ended; not where only another host or container knows.

    Args:
        owner_file: What `claim` wrote.

    Raises:
        OSError: The file is gone.
        KeyError: It is not of this form.
        ValueError: Likewise.
    """
    owner, here = json.loads(owner_file.read_text()), _surroundings()
    if owner["host"] != here["host"]:
        return False
    if owner["boot_id"] != here["boot_id"]:
        return True
    if owner["pid_namespace"] != here["pid_namespace"]:
        return False
    try:
        # A process id may have been given to another process since: its start tells them apart.
        return _start_ticks(int(owner["pid"])) != owner["start_ticks"]
    except FileNotFoundError:
        return True


def _start_ticks(pid: int) -> int:
    """Return when a process started, in ticks since the machine's start: that stays when its clock is set."""
    # The process's name, in brackets, may hold spaces and brackets; its start is the 22nd field (man 5 proc).
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def _surroundings() -> dict[str, str]:
    """Return where this process's id means anything."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    pid_namespace = str(Path("/proc/self/ns/pid").readlink())
    return {"host": socket.gethostname(), "boot_id": boot_id, "pid_namespace": pid_namespace}


@contextlib.contextmanager
def own_temporary_folder() -> Iterator[Path]:
    """Make an empty folder that goes with the block; one of a killed process goes with the next run's start."""
    with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX) as outer:
        claim(Path(outer))
        folder = Path(outer) / "files"
        folder.mkdir()
        yield folder


def require_writable_folder(folder: Path, where: str) -> None:
    """Make a folder, its parents included, unless it is there.

    Args:
        folder: Where files will be written.
        where: Names the option in the error.

    Raises:
        RequestError: It is no folder, cannot be made, or cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(where, str(folder), f"no folder can be made there: {error.strerror}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise RequestError(where, str(folder), "the folder cannot be written to", "Name another, or change its rights.")


def require_writable_file(path: Path, where: str) -> None:
    """Make the folder of a file that will be written.

    Raises:
        RequestError: The path is a folder, or its folder cannot be made or written to.
    """
    if path.is_dir():
        raise RequestError(where, str(path), "that is a folder, and a file is to be written", "Add the file's name.")
    require_writable_folder(path.parent, where)


def existing_parent(path: Path) -> Path:
    """Return a path, or the nearest folder above it that is there: where its disk's free space is read."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path
