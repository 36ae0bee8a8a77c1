"""The story of one `run`: what is not done yet runs, is recorded, tracked and reported."""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from benchmark.datasets.reading.seal import sealed_tests
from benchmark.errors import AdapterTuneError
from benchmark.folders import require_writable_folder
from benchmark.garbage import lasting_imports
from benchmark.result import EpochRecord, TrialOutcome, TrialStatus
from benchmark.spec import TrialSpec
from benchmark.tracking import (
    Delivery,
    StudyTracker,
    import_client,
    read_curves,
    read_first_losses,
    read_predictions,
    read_study,
    store_report,
)
from reports.analysis import CurveReader, LossReader
from reports.build import Report, build_report, import_ahead
from reports.image_tests import PredictionReader
from tuning.budget import Budget, check_budget
from tuning.growing_study import GrowingStudy
from tuning.ledger import Ledger
from tuning.mirror import Mirror, Store
from tuning.scheduled_trial import ScheduledTrial
from tuning.scheduler import run_trials
from tuning.settled import digest_of, settled_report
from tuning.study import Study
from tuning.study_lock import StudyLock

if TYPE_CHECKING:
    from tuning.early_stopping import HalvingWithinUnits

DELIVERY_TIMEOUT_SECONDS = 120.0
"""How long a finished study waits for a slow tracking store before it leaves the rest to the next run."""

_logger = logging.getLogger(__name__)


class Progress(Protocol):
    """Who shows how a study gets on."""

    def planned(self, study: Study) -> None:
        """A search knows more of its trials than before."""

    def started(self, trial_id: str) -> None:
        """A trial runs."""

    def advanced(self, trial_id: str, record: EpochRecord) -> None:
        """A trial has ended an epoch."""

    def ended(self, trial_id: str, status: TrialStatus) -> None:
        """A trial has ended."""


class NoProgress:
    """Shows nothing."""

    def planned(self, study: Study) -> None:
        """Say nothing."""

    def started(self, trial_id: str) -> None:
        """Say nothing."""

    def advanced(self, trial_id: str, record: EpochRecord) -> None:
        """Say nothing."""

    def ended(self, trial_id: str, status: TrialStatus) -> None:
        """Say nothing."""


@dataclass(frozen=True)
class RunSettings:
    """Where a study runs and where its results go.

    Attributes:
        output_directory: The ledger, checkpoints, default tracking store and reports.
        tracking_uri: Where MLflow keeps the results.
        cluster_address: `local`, `auto` or `HOST:PORT`.
        max_hours: After so long no trial and no epoch starts; what is unfinished can be resumed.
        max_gpu_hours: The same, once the trials of this run have held GPUs for so long.
        report_directory: Where the report goes; none for `reports/STUDY` in the output directory.
        strict: Refuse to report a study with missing seeds.
        pack: Whether trials may train in one pass.
    """

    output_directory: Path
    tracking_uri: str
    cluster_address: str = "local"
    max_hours: float | None = None
    max_gpu_hours: float | None = None
    report_directory: Path | None = None
    strict: bool = False
    pack: bool = True

    def report_folder(self, study_name: str) -> Path:
        """Return where a study's report goes."""
        return self.report_directory or self.output_directory / "reports" / study_name


@dataclass(frozen=True)
class StudyOutcome:
    """How a `run` ended.

    Attributes:
        study: With all trials that are known by now.
        statuses: Of every trial of the study that has ended, in this run or an earlier one.
        report: The report; none when the run was interrupted.
        num_run: Trials that ended in this run.
        interrupted: Whether the user stopped it.
        undelivered: Trials whose results are recorded here but could not be tracked yet.
        reasons: Why trials did not complete, by id.
        stopped_by: The option whose budget was spent while trials were open.
    """

    study: Study
    statuses: dict[str, TrialStatus]
    report: Report | None
    num_run: int
    interrupted: bool
    undelivered: tuple[str, ...]
    reasons: dict[str, str] = field(default_factory=dict)
    stopped_by: str | None = None


def run_study(study: Study, settings: RunSettings, progress: Progress) -> StudyOutcome:
    """Run what is not done yet of a study, then write its report.

    Raises:
        AdapterTuneError: The request is wrong, or something it needs is missing; nothing finished is lost.
    """
    check_budget(study.trials, settings.max_gpu_hours)
    require_writable_folder(settings.output_directory, "--output")
    if settings.report_directory is not None:
        require_writable_folder(settings.report_directory, "--report-dir")
    seal = sealed_tests() if study.spec.kind == "search" else contextlib.nullcontext()
    lock = StudyLock(settings.output_directory, study.spec.name)
    with seal, lock, contextlib.closing(Ledger(settings.output_directory)) as ledger, _mirror(study, ledger) as mirror:
        return _run_or_find_settled(GrowingStudy(study, ledger), settings, ledger, progress, mirror)


@contextlib.contextmanager
def _mirror(study: Study, ledger: Ledger) -> Iterator[Mirror | None]:
    """Take up what the study's mirror knows, and copy there what this run finds; none where it has no mirror."""
    url = study.spec.resources.mirror_url
    if url is None:
        yield None
        return
    with Mirror(Store(url), ledger, study.spec.name) as mirror:
        mirror.fetch(None if study.num_trials_to_come else study.trial_specs)
        yield mirror


def _run_or_find_settled(
    growing: GrowingStudy, settings: RunSettings, ledger: Ledger, progress: Progress, mirror: Mirror | None
) -> StudyOutcome:
    uri, name = settings.tracking_uri, growing.study.spec.name
    statuses, reasons, digest = _ended(growing.study, ledger, settings)
    report = settled_report(ledger, growing.study, uri, digest, settings.report_folder(name))
    if report is not None:
        progress.planned(growing.study)
        return StudyOutcome(growing.study, statuses, report, 0, False, (), reasons)
    tracking, budget = _Tracking(growing, settings, ledger), Budget(settings.max_hours, settings.max_gpu_hours)
    observer = _Observer(growing, tracking, progress, budget, mirror)
    conclusion = _Conclusion(name, settings, tracking)
    num_run = _run_open_trials(growing, settings, ledger, progress, tracking, observer, conclusion)
    statuses, reasons, digest = _ended(growing.study, ledger, settings)
    report, undelivered = conclusion.report, conclusion.undelivered
    if report is not None and digest is not None and tracking.complete_run_id is not None:
        ledger.record_settled(name, uri, digest, tracking.complete_run_id)
    stopped_by = budget.spent() if len(statuses) < growing.study.num_trials else None
    return StudyOutcome(growing.study, statuses, report, num_run, report is None, undelivered, reasons, stopped_by)


def write_report(study_name: str, settings: RunSettings) -> Report:
    """Write a study's report from tracking alone, and keep it with the study there."""
    record = read_study(settings.tracking_uri, study_name)
    curves, losses, predictions = report_readers(settings.tracking_uri)
    folder = settings.report_folder(study_name)
    report = build_report(record, curves, folder, settings.strict, first_losses=losses, predictions=predictions)
    try:
        store_report(settings.tracking_uri, record.run_id, folder, report.files)
    except (AdapterTuneError, OSError) as error:  # who may read a store need not be allowed to write to it
        _logger.warning("The report is written, but could not be stored with the study: %s", error)
    return report


def report_readers(tracking_uri: str) -> tuple[CurveReader, LossReader, PredictionReader]:
    """Return what reads epochs, first losses and test predictions of runs from a store."""
    return (
        functools.partial(read_curves, tracking_uri),
        functools.partial(read_first_losses, tracking_uri),
        functools.partial(read_predictions, tracking_uri),
    )


def _run_open_trials(
    growing: GrowingStudy,
    settings: RunSettings,
    ledger: Ledger,
    progress: Progress,
    tracking: _Tracking,
    observer: _Observer,
    conclusion: _Conclusion,
) -> int:
    """Run what is open, conclude, and return how many trials ended."""
    statuses: dict[str, TrialStatus] = {}
    progress.planned(growing.study)

    def next_round() -> Sequence[ScheduledTrial]:
        new = growing.grow()
        if new:
            tracking.replan()
            progress.planned(growing.study)
        return new

    try:
        statuses = run_trials(
            growing.study.trials,
            settings.cluster_address,
            ledger,
            observer,
            study=growing.study.spec.name,
            meanwhile=functools.partial(import_client, settings.tracking_uri),
            on_connected=tracking.open,
            on_over=conclusion.conclude,
            should_stop=observer.is_budget_spent,
            trial_scheduler=lambda: _trial_scheduler(growing.study, ledger),
            next_round=next_round,
            max_trials_per_pack=_max_trials_per_pack(growing.study, settings),
            max_concurrent_trials=growing.study.spec.resources.max_concurrent_trials,
            wait_for_nodes_seconds=growing.study.spec.resources.wait_for_nodes_seconds,
            limits=growing.study.spec.resources.limits,
        )
        conclusion.conclude()
    except KeyboardInterrupt:
        conclusion.leave(interrupted=True)
    except BaseException:
        conclusion.leave(interrupted=False)
        raise
    return len(statuses)


class _Conclusion:
    """What follows the trials, once: their last results are delivered, and the report is written.

    Attributes:
        report: None before, and where the user stopped the run.
        undelivered: The trials whose results could not be tracked yet.
    """

    def __init__(self, study_name: str, settings: RunSettings, tracking: _Tracking) -> None:
        self._study_name, self._settings, self._tracking = study_name, settings, tracking
        self._started = time.monotonic()
        self._is_closed = False
        self.report: Report | None = None
        self.undelivered: tuple[str, ...] = ()

    def conclude(self) -> None:
        """Deliver, and write the report."""
        if self.report is None:
            self._tracking.open()
            self.leave(interrupted=False)
            self.report = write_report(self._study_name, self._settings)

    def leave(self, interrupted: bool) -> None:
        """Deliver what there is; once, so what follows a conclusion changes nothing.

        Args:
            interrupted: Whether the user stopped the run.
        """
        if not self._is_closed:
            self._is_closed = True
            self.undelivered = self._tracking.close(time.monotonic() - self._started, interrupted)


class _Tracking:
    """A study's place in tracking while it runs: opened once, filled from a queue, closed with what is left.

    Attributes:
        complete_run_id: The study's run, once closed with nothing left out.
    """

    def __init__(self, growing: GrowingStudy, settings: RunSettings, ledger: Ledger) -> None:
        self._growing, self._settings, self._ledger = growing, settings, ledger
        self._tracker: StudyTracker | None = None
        self.complete_run_id: str | None = None
        self._delivery: Delivery | None = None

    def open(self) -> None:
        """Find or make the study in tracking, and send what ended in earlier runs but is not there yet."""
        if self._tracker is not None:
            return
        study = self._growing.study
        spec = study.spec
        self._tracker = StudyTracker(
            self._settings.tracking_uri, spec.name, spec.model_dump(mode="json"), study.planned, spec.question
        )
        earlier = _undelivered_earlier(study, self._ledger, self._tracker)
        specs = study.trial_specs
        self._delivery = Delivery(self._tracker)
        for trial_id in earlier:
            self.start(specs[trial_id])
            self.finish(trial_id)

    def replan(self) -> None:
        """Add the trials that are known only now to the study's plan."""
        assert self._delivery is not None
        self._delivery.replan(self._growing.study.planned)

    def start(self, spec: TrialSpec) -> None:
        """Show a trial as running, with the epochs it has behind it."""
        assert self._delivery is not None
        self._delivery.start_trial(spec.trial_id, spec)
        self._delivery.log_epochs(spec.trial_id, self._ledger.epochs(spec.trial_id))

    def log(self, trial_id: str, record: EpochRecord) -> None:
        """Add an epoch to a trial's curves."""
        assert self._delivery is not None
        self._delivery.log_epochs(trial_id, [record])

    def finish(self, trial_id: str) -> None:
        """Store a trial's outcome, read from the ledger when its turn comes."""
        assert self._delivery is not None
        self._delivery.finish_trial(trial_id, functools.partial(_outcome_of, self._ledger, trial_id))

    def close(self, wall_seconds: float, interrupted: bool) -> tuple[str, ...]:
        """Deliver what is waiting and return the trials that could not be delivered."""
        if self._tracker is None or self._delivery is None:
            return ()
        outcome = self._delivery.close(DELIVERY_TIMEOUT_SECONDS)
        if outcome.error is not None:
            _logger.warning("Not everything could be tracked: %s", outcome.error)
        elif not outcome.undelivered_trial_ids:
            self._tracker.mark_interrupted()
            self._tracker.finish_study(wall_seconds, interrupted=interrupted)
            self.complete_run_id = self._tracker.run_id
        return outcome.undelivered_trial_ids


def _max_trials_per_pack(study: Study, settings: RunSettings) -> int:
    """Return how many trials may train in one pass: early stopping decides trial by trial, so each is alone there."""
    return study.spec.resources.trials_per_pack if settings.pack and not study.stops_early else 1


def _trial_scheduler(study: Study, ledger: Ledger) -> HalvingWithinUnits | None:
    """Return what gives up a search's trials, with what earlier runs found; none where nothing does."""
    if not study.stops_early:
        return None
    from tuning.early_stopping import halving_of

    halving = halving_of(study)
    entries = ledger.entries([trial.spec.trial_id for trial in study.trials])
    for trial_id, entry in entries.items():
        if halving is not None and entry.is_final:
            halving.remember(trial_id, ledger.epochs(trial_id))
    return halving


class _Observer:
    """Passes on what happens to the trials: to tracking, to who shows it, to who counts what they cost, to a mirror."""

    def __init__(
        self, growing: GrowingStudy, tracking: _Tracking, progress: Progress, budget: Budget, mirror: Mirror | None
    ) -> None:
        self._growing, self._mirror = growing, mirror
        self._tracking, self._progress, self._budget = tracking, progress, budget

    def is_budget_spent(self) -> bool:
        return self._budget.spent() is not None

    def on_trial_started(self, trial_id: str, num_sharing: int) -> None:
        self._budget.trial_started(trial_id, self._growing.study.num_gpus[trial_id] / num_sharing)
        self._tracking.start(self._growing.study.trial_specs[trial_id])
        self._progress.started(trial_id)

    def on_quiet(self) -> None:
        with lasting_imports():
            import_ahead()

    def on_epoch(self, trial_id: str, record: EpochRecord) -> None:
        self._tracking.log(trial_id, record)
        self._progress.advanced(trial_id, record)
        self._copy(trial_id)

    def on_trial_ended(self, trial_id: str, status: TrialStatus) -> None:
        self._budget.trial_ended(trial_id)
        self._tracking.finish(trial_id)
        self._progress.ended(trial_id, status)
        self._copy(trial_id)

    def _copy(self, trial_id: str) -> None:
        if self._mirror is not None:
            self._mirror.note(trial_id)


def _outcome_of(ledger: Ledger, trial_id: str) -> TrialOutcome:
    outcome = ledger.outcome(trial_id)
    assert outcome is not None, f"the ledger holds no outcome of {trial_id}, which has ended"
    return outcome


def _undelivered_earlier(study: Study, ledger: Ledger, tracker: StudyTracker) -> list[str]:
    """Return trials that ended in an earlier run, here or in another study, but are not in this study's tracking."""
    delivered = tracker.delivered_statuses()
    entries = ledger.entries([trial.spec.trial_id for trial in study.trials])
    return [
        trial_id
        for trial_id, entry in entries.items()
        if isinstance(entry.state, TrialStatus) and delivered.get(trial_id) != entry.state
    ]


def _ended(
    study: Study, ledger: Ledger, settings: RunSettings
) -> tuple[dict[str, TrialStatus], dict[str, str], str | None]:
    """Return the trials that have ended, why some did not complete, and the digest of a study that is through."""
    entries = ledger.entries(list(study.trial_specs))
    statuses = {key: entry.state for key, entry in entries.items() if isinstance(entry.state, TrialStatus)}
    reasons = {key: entry.reason for key, entry in entries.items() if key in statuses and entry.reason}
    digest = digest_of(study, entries, settings.report_folder(study.spec.name), settings.strict)
    return statuses, reasons, digest
