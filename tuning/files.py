"""Files that are there completely or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def replace_atomically(path: Path, content: bytes | None) -> None:
    """Write a file so that a crash leaves the old content or the new one; none removes the file."""
    if content is None:
        remove(path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        # Half a file on a disk that is full would keep it full.
        remove(temporary)
        raise
    _sync_folder(path.parent)


def remove(*paths: Path) -> None:
    """Remove files that may be absent."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def _sync_folder(folder: Path) -> None:
    # The new name itself is only on the disk once the folder is.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
