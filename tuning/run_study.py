"""The story of one `run`: what is not done yet runs, is recorded, tracked and reported."""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from benchmark.result import EpochRecord, TrialStatus
from benchmark.tracking import Delivery, StudyTracker, read_curves, read_study
from reports.build import Report, build_report
from tuning.ledger import Ledger
from tuning.scheduled_trial import ScheduledTrial
from tuning.scheduler import run_trials
from tuning.study import Study
from tuning.study_lock import StudyLock

DELIVERY_TIMEOUT_SECONDS = 120.0
"""How long a finished study waits for a slow tracking store before it leaves the rest to the next run."""

_logger = logging.getLogger(__name__)


class Progress(Protocol):
    """Who shows how a study gets on."""

    def started(self, trial_id: str) -> None:
        """A trial runs."""

    def advanced(self, trial_id: str, record: EpochRecord) -> None:
        """A trial has ended an epoch."""

    def ended(self, trial_id: str, status: TrialStatus) -> None:
        """A trial has ended."""


@dataclass(frozen=True)
class RunSettings:
    """Where a study runs and where its results go.

    Attributes:
        output_directory: The ledger, checkpoints, default tracking store and reports.
        tracking_uri: Where MLflow keeps the results.
        cluster_address: `local`, `auto` or `HOST:PORT`.
        max_hours: After so long no new epoch starts; what is unfinished can be resumed.
        report_directory: Where the report goes; none for `reports/STUDY` in the output directory.
        strict: Refuse to report a study with missing seeds.
    """

    output_directory: Path
    tracking_uri: str
    cluster_address: str = "local"
    max_hours: float | None = None
    report_directory: Path | None = None
    strict: bool = False


@dataclass(frozen=True)
class StudyOutcome:
    """How a `run` ended.

    Attributes:
        statuses: Of every trial of the study that has ended, in this run or an earlier one.
        report: The report; none when the run was interrupted.
        num_run: Trials that ended in this run.
        interrupted: Whether the user stopped it.
        undelivered: Trials whose results are recorded here but could not be tracked yet.
        reasons: Why trials did not complete, by id.
    """

    statuses: dict[str, TrialStatus]
    report: Report | None
    num_run: int
    interrupted: bool
    undelivered: tuple[str, ...]
    reasons: dict[str, str] = field(default_factory=dict)


def run_study(study: Study, settings: RunSettings, progress: Progress) -> StudyOutcome:
    """Run what is not done yet of a study, then write its report.

    Raises:
        AdapterTuneError: The request is wrong, or something it needs is missing; nothing finished is lost.
    """
    with StudyLock(settings.output_directory, study.spec.name):
        with contextlib.closing(Ledger(settings.output_directory)) as ledger:
            num_run, interrupted, undelivered = _run_open_trials(study, settings, ledger, progress)
            statuses, reasons = _ended(study, ledger)
        report = None if interrupted else write_report(study.spec.name, settings)
    return StudyOutcome(statuses, report, num_run, interrupted, undelivered, reasons)


def write_report(study_name: str, settings: RunSettings) -> Report:
    """Write a study's report from tracking alone, and keep it with the study there."""
    record = read_study(settings.tracking_uri, study_name)
    directory = settings.report_directory or settings.output_directory / "reports" / study_name
    curves = functools.partial(read_curves, settings.tracking_uri)
    return build_report(record, curves, directory, strict=settings.strict)


def _run_open_trials(
    study: Study, settings: RunSettings, ledger: Ledger, progress: Progress
) -> tuple[int, bool, tuple[str, ...]]:
    """Return how many trials ended, whether the user stopped the run, and what could not be tracked."""
    started, statuses, interrupted = time.monotonic(), {}, False
    tracker = StudyTracker(
        settings.tracking_uri,
        study.spec.name,
        study.spec.model_dump(mode="json"),
        study.planned,
        study.spec.question,
    )
    earlier = _undelivered_earlier(study, ledger, tracker)
    with _delivering(tracker) as delivery:
        for trial_id in earlier:
            delivery.log_epochs(trial_id, ledger.epochs(trial_id))
            delivery.finish_trial(trial_id, _outcome_from(ledger, trial_id))
        try:
            statuses = run_trials(
                study.trials,
                settings.cluster_address,
                ledger,
                _Observer(study, ledger, delivery, progress),
                study=study.spec.name,
                should_stop=_deadline(settings.max_hours),
            )
        except KeyboardInterrupt:
            interrupted = True
        outcome = delivery.close(DELIVERY_TIMEOUT_SECONDS)
    if outcome.error is None and not outcome.undelivered_trial_ids:
        tracker.mark_interrupted()
        tracker.finish_study(time.monotonic() - started, interrupted=interrupted)
    return len(statuses), interrupted, outcome.undelivered_trial_ids


@contextlib.contextmanager
def _delivering(tracker: StudyTracker) -> Iterator[Delivery]:
    delivery = Delivery(tracker)
    try:
        yield delivery
    finally:
        delivery.close(timeout_seconds=1.0)


class _Observer:
    """Passes on what happens to the trials: to tracking, and to who shows it."""

    def __init__(self, study: Study, ledger: Ledger, delivery: Delivery, progress: Progress) -> None:
        self._trials: dict[str, ScheduledTrial] = {trial.spec.trial_id: trial for trial in study.trials}
        self._ledger, self._delivery, self._progress = ledger, delivery, progress

    def on_trial_started(self, trial_id: str) -> None:
        self._delivery.start_trial(trial_id, self._trials[trial_id].spec)
        self._delivery.log_epochs(trial_id, self._ledger.epochs(trial_id))
        self._progress.started(trial_id)

    def on_epoch(self, trial_id: str, record: EpochRecord) -> None:
        self._delivery.log_epochs(trial_id, [record])
        self._progress.advanced(trial_id, record)

    def on_trial_ended(self, trial_id: str, status: TrialStatus) -> None:
        self._delivery.finish_trial(trial_id, _outcome_from(self._ledger, trial_id))
        self._progress.ended(trial_id, status)


def _outcome_from(ledger: Ledger, trial_id: str) -> Callable[[], Any]:
    return functools.partial(ledger.outcome, trial_id)


def _undelivered_earlier(study: Study, ledger: Ledger, tracker: StudyTracker) -> list[str]:
    """Return trials that ended in an earlier run, here or in another study, but are not in this study's tracking."""
    delivered = tracker.delivered_statuses()
    entries = ledger.entries([trial.spec.trial_id for trial in study.trials])
    return [
        trial_id
        for trial_id, entry in entries.items()
        if isinstance(entry.state, TrialStatus) and delivered.get(trial_id) != entry.state
    ]


def _ended(study: Study, ledger: Ledger) -> tuple[dict[str, TrialStatus], dict[str, str]]:
    entries = ledger.entries([trial.spec.trial_id for trial in study.trials])
    statuses = {key: entry.state for key, entry in entries.items() if isinstance(entry.state, TrialStatus)}
    return statuses, {key: entry.reason for key, entry in entries.items() if key in statuses and entry.reason}


def _deadline(max_hours: float | None) -> Callable[[], bool]:
    if max_hours is None:
        return lambda: False
    ends = time.monotonic() + 3600.0 * max_hours
    return lambda: time.monotonic() >= ends
