"""Folders: those that results go to, checked before the work that makes them, and temporary ones."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmark.errors import RequestError

TEMPORARY_PREFIX = "adaptertune-"
OWNER_FILE = "owner.json"
"""In a temporary folder: which process made it, so that the next run can tell what a killed one has left."""


def claim(folder: Path) -> None:
    """Write down that this process made a temporary folder."""
    import psutil

    owner = {"pid": os.getpid(), "started_at_seconds": float(psutil.Process().create_time())}
    (folder / OWNER_FILE).write_text(json.dumps(owner))


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
