"""Questions about many runs of a study, asked of an sqlite store itself.

MLflow answers them run by run, or with all that a run has, and its import alone takes longer than these answers. Where
the tables are not those expected, the answer is none, and the caller asks MLflow.
"""

from __future__ import annotations

import contextlib
import math
import sqlite3
from collections.abc import Iterator, Sequence

from benchmark.tracking import schema
from benchmark.tracking.records import StoredRun
from benchmark.tracking.store import sqlite_path

RUNS_PER_QUERY = 500

_COUNT_DELIVERED = """
SELECT COUNT(*) FROM tags AS parent
JOIN runs ON runs.run_uuid = parent.run_uuid AND runs.lifecycle_stage = 'active'
JOIN tags AS delivered ON delivered.run_uuid = parent.run_uuid AND delivered.key = ?
WHERE parent.key = ? AND parent.value = (SELECT run_uuid FROM runs WHERE run_uuid = ? AND lifecycle_stage = 'active')
"""

_STUDY_RUNS = """
SELECT runs.run_uuid, runs.status, runs.start_time, runs.artifact_uri,
EXISTS (SELECT 1 FROM params WHERE params.run_uuid = runs.run_uuid), tags.key, tags.value
FROM runs LEFT JOIN tags ON tags.run_uuid = runs.run_uuid AND tags.key IN ({marks})
WHERE runs.experiment_id = ? AND runs.lifecycle_stage = 'active' ORDER BY runs.start_time, runs.run_uuid
"""

Point = tuple[str, str, int, float]
"""One value of a metric's history: the run's id, the metric, the step, the value."""


def num_delivered(tracking_uri: str, run_id: str) -> int | None:
    """Return how many results of a study's trials a store holds whole.

    Args:
        tracking_uri: An sqlite store's address.
        run_id: The study's parent run.
    """
    try:
        with _opened(tracking_uri) as connection:
            row = connection.execute(_COUNT_DELIVERED, (schema.DELIVERED, schema.PARENT_RUN, run_id)).fetchone()
    except sqlite3.Error:
        return None
    return int(row[0])


def study_runs(tracking_uri: str, experiment_id: str, tags: Sequence[str]) -> list[StoredRun] | None:
    """Return an experiment's runs, oldest first, with those of the named tags that they have."""
    query = _STUDY_RUNS.format(marks=",".join("?" * len(tags)))
    runs: dict[str, StoredRun] = {}
    try:
        with _opened(tracking_uri) as connection:
            for *facts, has_parameters, key, value in connection.execute(query, (*tags, int(experiment_id))):
                run_id, status, start_time_ms, artifact_uri = facts
                run = StoredRun(run_id, status, start_time_ms, artifact_uri, bool(has_parameters), {})
                run = runs.setdefault(run_id, run)
                if key is not None:
                    run.tags[key] = value
    except sqlite3.Error:
        return None
    return list(runs.values())


def metric_histories(tracking_uri: str, run_ids: Sequence[str], metrics: Sequence[str]) -> list[Point] | None:
    """Return the histories of metrics of many runs, as a list of points in the order of logging."""
    points: list[Point] = []
    try:
        with _opened(tracking_uri) as connection:
            for first in range(0, len(run_ids), RUNS_PER_QUERY):
                some = run_ids[first : first + RUNS_PER_QUERY]
                rows = connection.execute(_histories_query(len(some), len(metrics)), (*some, *metrics))
                points += [(run, key, step, math.nan if is_nan else value) for run, key, step, value, is_nan in rows]
    except sqlite3.Error:
        return None
    return points


def artifact_uris(tracking_uri: str, run_ids: Sequence[str]) -> dict[str, str] | None:
    """Return where the files of runs lie, by run id."""
    found: dict[str, str] = {}
    try:
        with _opened(tracking_uri) as connection:
            for first in range(0, len(run_ids), RUNS_PER_QUERY):
                some = run_ids[first : first + RUNS_PER_QUERY]
                marks = ",".join("?" * len(some))
                query = f"SELECT run_uuid, artifact_uri FROM runs WHERE run_uuid IN ({marks})"  # noqa: S608
                found |= dict(connection.execute(query, tuple(some)).fetchall())
    except sqlite3.Error:
        return None
    return found


@contextlib.contextmanager
def _opened(tracking_uri: str) -> Iterator[sqlite3.Connection]:
    """Open a database for reading alone; one that is not there is an error of sqlite's, and is not made."""
    with contextlib.closing(sqlite3.connect(f"{sqlite_path(tracking_uri).as_uri()}?mode=ro", uri=True)) as connection:
        yield connection


def _histories_query(num_runs: int, num_metrics: int) -> str:
    runs, keys = (",".join("?" * count) for count in (num_runs, num_metrics))
    return (
        "SELECT run_uuid, key, step, value, is_nan FROM metrics "  # noqa: S608
        f"WHERE run_uuid IN ({runs}) AND key IN ({keys}) ORDER BY run_uuid, timestamp, step"
    )
