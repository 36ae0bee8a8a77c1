"""Keeps a study's report with the study: the files of the last one lie beside its parent run, below `report/`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from benchmark.folders import own_temporary_folder
from benchmark.tracking import artifacts, database
from benchmark.tracking.store import is_sqlite, open_client, store_errors

REPORT_FOLDER = "report"


def store_report(tracking_uri: str, run_id: str, directory: Path, files: Sequence[Path]) -> None:
    """Store a report's files with its study.

    They take the place of an earlier report's; on a server, whose files cannot be removed, of those of the same names.

    Args:
        tracking_uri: The store.
        run_id: The study's parent run.
        directory: Where the report lies; whatever else is there stays there.
        files: The report's own, below the directory.

    Raises:
        StoreUnavailableError: The store does not answer now.
        RequestError: The store refuses, or knows no such run.
        OSError: A file cannot be written.
    """
    place = (database.artifact_uris(tracking_uri, [run_id]) or {}).get(run_id) if is_sqlite(tracking_uri) else None
    if place is not None:
        target = artifacts.local_place(tracking_uri, place) / REPORT_FOLDER
        shutil.rmtree(target, ignore_errors=True)
        _copy(directory, files, target)
        return
    with own_temporary_folder() as folder, store_errors(tracking_uri):
        _copy(directory, files, folder)
        open_client(tracking_uri).log_artifacts(run_id, str(folder), REPORT_FOLDER)


def _copy(directory: Path, files: Sequence[Path], target: Path) -> None:
    for file in files:
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(directory / file, target / file)
