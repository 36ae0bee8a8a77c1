"""The suite's own truth about its trials: what is done, how it ended, and where to go on.

It lies in the output directory: `ledger.sqlite`, and the large things as files under `trials/TRIAL_ID/`. A file is
written completely before the row that announces it, so a process killed at any moment leaves the state before or after,
never a mixture. Its import is light: reading ten thousand rows is what `status` does.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from benchmark.errors import MissingError
from benchmark.result import EpochRecord, TrialOutcome, TrialResult, TrialStatus
from tuning.files import remove, replace_atomically
from tuning.study_lock import study_is_locked

LAST_CHECKPOINT = "last.ckpt"
PREVIOUS_CHECKPOINT = "previous.ckpt"
PREDICTIONS = "predictions.npz"
ADAPTER = "adapter.safetensors"

_BUSY_TIMEOUT_SECONDS = 60.0
_IDS_PER_QUERY = 500

LEDGER_FILE = "ledger.sqlite"

LEDGER_VERSION = 1
"""Of the tables below, kept as SQLite's `user_version`. Raised when an older suite could not read them any more;
whoever raises it brings older tables there when the ledger is opened. 0: those of 1, from before versions were kept."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS trials (
    trial_id TEXT PRIMARY KEY, study TEXT NOT NULL, status TEXT, reason TEXT, result TEXT,
    predictions_sha256 TEXT, adapter_sha256 TEXT, started_at TEXT, ended_at TEXT);
CREATE TABLE IF NOT EXISTS epochs (
    trial_id TEXT NOT NULL, epoch INTEGER NOT NULL, record TEXT NOT NULL, validation_top1 REAL,
    checkpoint_sha256 TEXT, wall_seconds REAL NOT NULL, PRIMARY KEY (trial_id, epoch)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS settled (
    study TEXT NOT NULL, tracking_uri TEXT NOT NULL, digest TEXT NOT NULL, run_id TEXT NOT NULL,
    PRIMARY KEY (study, tracking_uri)) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class LedgerEntry:
    """One trial's line in an overview.

    Attributes:
        state: How it ended; `running` under a living driver, `interrupted` under none.
        epoch: The last one recorded, or none.
        best_validation_top1: Fraction in [0, 1], or none.
        reason: Why it did not complete.
        started_at: ISO 8601, UTC.
        ended_at: ISO 8601, UTC, or none.
    """

    state: TrialStatus | Literal["running", "interrupted"]
    epoch: int | None
    best_validation_top1: float | None
    reason: str | None
    started_at: str | None
    ended_at: str | None

    @property
    def is_final(self) -> bool:
        """Whether the trial has ended for good."""
        return isinstance(self.state, TrialStatus) and self.state.is_final


@dataclass(frozen=True)
class ResumePoint:
    """Where an unfinished trial goes on.

    Attributes:
        checkpoint: The bytes to resume from.
        epoch: The last epoch they contain.
        wall_seconds: What the trial had cost by then.
    """

    checkpoint: bytes
    epoch: int
    wall_seconds: float


class Ledger:
    """The record of all trials of one output directory. One process writes, others may read."""

    def __init__(self, output_directory: Path | str) -> None:
        """Open the ledger, or begin one; tables that an older version did not have yet are added.

        Args:
            output_directory: Where it lies; made when absent.

        Raises:
            MissingError: A newer version has written it.
        """
        self._directory = Path(output_directory)
        self._trials = self._directory / "trials"
        self._trials.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(
            self._directory / LEDGER_FILE,
            timeout=_BUSY_TIMEOUT_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        self._refuse_newer()
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.executescript(_SCHEMA)
        if self._version() != LEDGER_VERSION:
            self._connection.execute(f"PRAGMA user_version={LEDGER_VERSION}")

    @property
    def output_directory(self) -> Path:
        """Where the ledger lies."""
        return self._directory

    def close(self) -> None:
        """Close the data base."""
        self._connection.close()

    def record_running(self, trial_id: str, study: str) -> None:
        """Record that a trial has taken its slot; what an earlier failed try left as its result is void."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO trials (trial_id, study, started_at) VALUES (?, ?, ?) ON CONFLICT (trial_id) "
                "DO UPDATE SET study = excluded.study, status = NULL, reason = NULL, result = NULL, ended_at = NULL",
                (trial_id, study, _now()),
            )

    def record_epoch(
        self, trial_id: str, record: EpochRecord, checkpoint: bytes | None, wall_seconds: float = 0.0
    ) -> None:
        """Record an epoch and what to resume from after it; an epoch that ran before is replaced.

        Args:
            trial_id: Whose epoch.
            record: What it measured.
            checkpoint: The bytes to resume from, or none where the trial gives none.
            wall_seconds: What the trial has cost up to here, earlier tries included.
        """
        if checkpoint is not None:
            self._rotate_checkpoint(trial_id, checkpoint)
        row = (
            trial_id,
            record.epoch,
            record.model_dump_json(),
            record.validation_top1,
            _sha256(checkpoint),
            wall_seconds,
        )
        with self._transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO epochs VALUES (?, ?, ?, ?, ?, ?)", row)

    def record_outcome(self, outcome: TrialOutcome, study: str | None = None) -> None:
        """Record how a trial ended. Its checkpoints go as soon as the status is final.

        Args:
            outcome: The result and its files.
            study: The study it ran for; that of `record_running` when none.
        """
        result = outcome.result
        folder = self._trials / result.trial_id
        replace_atomically(folder / PREDICTIONS, outcome.predictions)
        replace_atomically(folder / ADAPTER, outcome.checkpoint)
        values = (
            result.status.value,
            result.reason,
            result.model_dump_json(),
            _sha256(outcome.predictions),
            _sha256(outcome.checkpoint),
            _now(),
        )
        with self._transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO trials (trial_id, study) VALUES (?, ?)", (result.trial_id, study or "")
            )
            connection.execute(
                "UPDATE trials SET status = ?, reason = ?, result = ?, predictions_sha256 = ?, adapter_sha256 = ?, "
                "ended_at = ? WHERE trial_id = ?",
                (*values, result.trial_id),
            )
        if result.status.is_final:
            remove(folder / LAST_CHECKPOINT, folder / PREVIOUS_CHECKPOINT)

    def result(self, trial_id: str) -> TrialResult | None:
        """Return how a trial ended, or none when it has not."""
        row = self._row("SELECT result FROM trials WHERE trial_id = ?", trial_id)
        return TrialResult.model_validate_json(row[0]) if row and row[0] else None

    def outcome(self, trial_id: str) -> TrialOutcome | None:
        """Return a trial's result with its files, or none when it has not ended.

        Raises:
            MissingError: A file is gone or damaged.
        """
        row = self._row("SELECT result, predictions_sha256, adapter_sha256 FROM trials WHERE trial_id = ?", trial_id)
        if row is None or row[0] is None:
            return None
        folder = self._trials / trial_id
        result = TrialResult.model_validate_json(row[0])
        return TrialOutcome(result, _verified(folder / PREDICTIONS, row[1]), _verified(folder / ADAPTER, row[2]))

    def epochs(self, trial_id: str) -> list[EpochRecord]:
        """Return the recorded epochs of a trial, in order."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT record FROM epochs WHERE trial_id = ? ORDER BY epoch", (trial_id,)
            ).fetchall()
        return [EpochRecord.model_validate_json(record) for (record,) in rows]

    def entries(self, trial_ids: Sequence[str]) -> dict[str, LedgerEntry]:
        """Return the lines of the trials that the ledger knows, in one look."""
        rows: list[tuple[str | None, ...]] = []
        with self._lock:
            for start in range(0, len(trial_ids), _IDS_PER_QUERY):
                some = tuple(trial_ids[start : start + _IDS_PER_QUERY])
                rows += self._connection.execute(_entries_query(len(some)), some).fetchall()
        return dict(self._as_entries(rows))

    def record_settled(self, study: str, tracking_uri: str, digest: str, run_id: str) -> None:
        """Record that a study is run, tracked and reported.

        Args:
            study: Its name.
            tracking_uri: The store that holds its results.
            digest: Of all that its report follows from.
            run_id: The study's run in that store.
        """
        with self._transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO settled VALUES (?, ?, ?, ?)", (study, tracking_uri, digest, run_id)
            )

    def settled_run(self, study: str, tracking_uri: str, digest: str) -> str | None:
        """Return a settled study's run in the store; none where it never was, or something has changed since."""
        with self._lock:
            row = self._connection.execute(
                "SELECT run_id FROM settled WHERE study = ? AND tracking_uri = ? AND digest = ?",
                (study, tracking_uri, digest),
            ).fetchone()
        return row[0] if row else None

    def resume_checkpoint(self, trial_id: str) -> bytes | None:
        """Return the newest whole checkpoint of an unfinished trial; none means from the beginning."""
        point = self.resume_point(trial_id)
        return point.checkpoint if point else None

    def resume_point(self, trial_id: str) -> ResumePoint | None:
        """Return where an unfinished trial goes on: after its last epoch, or the one before if that file is damaged."""
        for name in (LAST_CHECKPOINT, PREVIOUS_CHECKPOINT):
            point = self._point_of(trial_id, self._trials / trial_id / name)
            if point is not None:
                return point
        return None

    def begin(self, trial_id: str, study: str) -> ResumePoint | None:
        """Record a trial as running and return where it goes on; what lies beyond that point is forgotten."""
        point = self.resume_point(trial_id)
        last_epoch = point.epoch if point else -1
        # A damaged last checkpoint must not push the whole one before it out at the next epoch.
        last = self._trials / trial_id / LAST_CHECKPOINT
        if last.exists() and self._point_of(trial_id, last) is None:
            remove(last)
        with self._transaction() as connection:
            connection.execute("DELETE FROM epochs WHERE trial_id = ? AND epoch > ?", (trial_id, last_epoch))
        self.record_running(trial_id, study)
        return point

    def _version(self) -> int:
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        return int(version)

    def _refuse_newer(self) -> None:
        version = self._version()
        if version > LEDGER_VERSION:
            self.close()
            raise MissingError(
                f"{self._directory / LEDGER_FILE} was written by a newer version of the suite (ledger {version}, this "
                f"one reads up to {LEDGER_VERSION}). Install that version, or use another --output."
            )

    def _rotate_checkpoint(self, trial_id: str, checkpoint: bytes) -> None:
        last = self._trials / trial_id / LAST_CHECKPOINT
        if last.exists():
            os.replace(last, last.with_name(PREVIOUS_CHECKPOINT))  # noqa: PTH105
        replace_atomically(last, checkpoint)

    def _point_of(self, trial_id: str, path: Path) -> ResumePoint | None:
        try:
            checkpoint = path.read_bytes()
        except FileNotFoundError:
            return None
        with self._lock:
            row = self._connection.execute(
                "SELECT epoch, wall_seconds FROM epochs WHERE trial_id = ? AND checkpoint_sha256 = ? "
                "ORDER BY epoch DESC",
                (trial_id, _sha256(checkpoint)),
            ).fetchone()
        return ResumePoint(checkpoint, row[0], row[1]) if row else None

    def _as_entries(self, rows: list[tuple]) -> Iterator[tuple[str, LedgerEntry]]:
        locked: dict[str, bool] = {}
        for trial_id, study, status, reason, started_at, ended_at, epoch, best in rows:
            if status is not None:
                state: TrialStatus | Literal["running", "interrupted"] = TrialStatus(status)
            else:
                if study not in locked:
                    locked[study] = study_is_locked(self._directory, study)
                state = "running" if locked[study] else "interrupted"
            yield trial_id, LedgerEntry(state, epoch, best, reason, started_at, ended_at)

    def _row(self, query: str, trial_id: str) -> tuple | None:
        with self._lock:
            row: tuple | None = self._connection.execute(query, (trial_id,)).fetchone()
        return row

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")


def _entries_query(num_ids: int) -> str:
    marks = ",".join("?" * num_ids)
    return (
        "SELECT t.trial_id, t.study, t.status, t.reason, t.started_at, t.ended_at, "  # noqa: S608
        "MAX(e.epoch), MAX(e.validation_top1) "
        f"FROM trials t LEFT JOIN epochs e USING (trial_id) WHERE t.trial_id IN ({marks}) GROUP BY t.trial_id"
    )


def _verified(path: Path, sha256: str | None) -> bytes | None:
    if sha256 is None:
        return None
    content = path.read_bytes() if path.exists() else None
    if _sha256(content) != sha256:
        raise MissingError(f"{path} is gone or damaged: restore it, or use another --output and run the trial again.")
    return content


def _sha256(content: bytes | None) -> str | None:
    return None if content is None else hashlib.sha256(content).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
