"""One driver a study: a lock that ends with its process, however that ends."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO

from benchmark.errors import RequestError

_NUM_ATTEMPTS = 5
_SECONDS_BETWEEN_ATTEMPTS = 0.1


class StudyLock:
    """The right to run one study in one output directory, held while the context lasts."""

    def __init__(self, output_directory: Path | str, study: str) -> None:
        """Name the lock.

        Args:
            output_directory: Where the ledger lies.
            study: The study's name.
        """
        self._path = _lock_path(Path(output_directory), study)
        self._study = study
        self._file: IO[str] | None = None

    def __enter__(self) -> StudyLock:
        """Take the lock.

        Raises:
            RequestError: Another process runs the study.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = self._path.open("a+", encoding="utf-8")
        if not _try_lock(file):
            holder = _holder(file)
            file.close()
            hint = "Wait for it, or end that process."
            raise RequestError("study", self._study, f"it is being run by {holder}", hint)
        file.seek(0)
        file.truncate()
        started_at = datetime.now(UTC).isoformat(timespec="seconds")
        json.dump({"pid": os.getpid(), "host": socket.gethostname(), "started_at": started_at}, file)
        file.flush()
        self._file = file
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the lock back. The file stays: removing it would let two processes lock two files of one name."""
        if self._file is not None:
            self._file.close()
            self._file = None


def study_is_locked(output_directory: Path, study: str) -> bool:
    """Return whether a living process holds the study's lock."""
    try:
        file = _lock_path(output_directory, study).open("r", encoding="utf-8")
    except FileNotFoundError:
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def _lock_path(output_directory: Path, study: str) -> Path:
    return output_directory / "locks" / f"{study}.lock"


def _try_lock(file: IO[str]) -> bool:
    # `study_is_locked` holds the lock for an instant, so one refusal does not yet mean a second driver.
    for _ in range(_NUM_ATTEMPTS):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(_SECONDS_BETWEEN_ATTEMPTS)
    return False


def _holder(file: IO[str]) -> str:
    try:
        file.seek(0)
        holder = json.load(file)
        return f"process {holder['pid']} on {holder['host']} since {holder['started_at']}"
    except (ValueError, KeyError, OSError):
        return "another process"
