"""Folders: those that results go to, checked before the work that makes them, and temporary ones."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmark.errors import RequestError

TEMPORARY_PREFIX = "adaptertune-"
OWNER_FILE = "owner.json"
"""In a temporary folder: which process made it, so that the next run can tell what a killed one has left."""


def claimed_folder(parent: Path | None = None) -> Path:
    """Make a temporary folder, and write down in it that this process did.

    Args:
        parent: Where; none for the system's folder of temporary files.
    """
    pid = os.getpid()
    owner = json.dumps({"pid": pid, "start_ticks": _start_ticks(pid), **_surroundings()})
    folder = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=parent))
    (folder / OWNER_FILE).write_text(owner)
    return folder


def remove_claimed(folder: Path) -> None:
    """Remove a temporary folder, as far as nobody writes into it meanwhile.

    Who made it goes last: where this process is killed on the way, the next run still knows the folder as left over.
    """
    with contextlib.suppress(OSError):
        for entry in list(folder.iterdir()):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name != OWNER_FILE:
                entry.unlink(missing_ok=True)
        if [entry.name for entry in folder.iterdir()] in ([], [OWNER_FILE]):
            shutil.rmtree(folder, ignore_errors=True)


def is_left_over(owner_file: Path) -> bool:
    """Return whether the process that claimed a folder has ended; not where only another host or container knows.

    Args:
        owner_file: What `claimed_folder` wrote.

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
    outer = claimed_folder()
    try:
        folder = outer / "files"
        folder.mkdir()
        yield folder
    finally:
        remove_claimed(outer)


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
