"""Files that are there completely or not at all, and the folder in which results lie."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

DEFAULT_OUTPUT = Path("adaptertune-output")
OUTPUT_VARIABLE = "ADAPTERTUNE_OUTPUT"


def output_folder(named: str | Path | None = None) -> Path:
    """Return the folder of the results: the one named, that of the environment, or the one that is used by default."""
    return Path(named or os.environ.get(OUTPUT_VARIABLE) or DEFAULT_OUTPUT)


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
