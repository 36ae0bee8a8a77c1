"""Delivers results to tracking from a thread of its own, so that a slow or absent store never delays a study."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from benchmark.result import EpochRecord, TrialOutcome
from benchmark.spec import TrialSpec
from benchmark.tracking.records import PlannedTrial
from benchmark.tracking.store import StoreUnavailableError
from benchmark.tracking.study_tracker import StudyTracker

_logger = logging.getLogger(__name__)

FIRST_RETRY_SECONDS = 0.5
LONGEST_RETRY_SECONDS = 30.0


@dataclass(frozen=True)
class DeliveryOutcome:
    """What became of the deliveries.

    Attributes:
        undelivered_trial_ids: Trials that ended but whose result is not in tracking; the next run delivers them.
        error: The first error that no retry mends, or the last one of a store that does not answer; else none.
    """

    undelivered_trial_ids: tuple[str, ...]
    error: Exception | None


class Delivery:
    """A queue before a `StudyTracker`, emptied in order by one thread.

    A store that does not answer is asked again, ever less often. Nothing is kept here that the suite's ledger does not
    keep too: results are loaded from it when their turn comes, and what is undelivered at the end the next run sends.
    """

    def __init__(self, tracker: StudyTracker) -> None:
        """Start the thread; from now until `close`, `tracker` belongs to it."""
        self._tracker = tracker
        self._events: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._undelivered: dict[str, None] = {}
        self._epochs: dict[str, list[EpochRecord]] = {}
        self._error: Exception | None = None
        self._outage: Exception | None = None
        self._thread = threading.Thread(target=self._deliver_all, name="adaptertune-delivery", daemon=True)
        self._thread.start()

    def replan(self, planned: Sequence[PlannedTrial]) -> None:
        """Replace the study's plan, soon."""
        self._events.put(partial(self._tracker.replan, tuple(planned)))

    def start_trial(self, trial_id: str, spec: TrialSpec) -> None:
        """Show a trial as running, soon."""
        self._events.put(partial(self._tracker.start_trial, trial_id, spec))

    def log_epochs(self, trial_id: str, records: Sequence[EpochRecord]) -> None:
        """Add epochs to a started trial's curves, soon; those that wait when their turn comes go in one request."""
        with self._lock:
            is_first = trial_id not in self._epochs
            self._epochs.setdefault(trial_id, []).extend(records)
        if is_first:
            self._events.put(partial(self._log_waiting_epochs, trial_id))

    def finish_trial(self, trial_id: str, load_outcome: Callable[[], TrialOutcome]) -> None:
        """Store a trial's result, soon; `load_outcome` reads it from the ledger when its turn comes."""
        with self._lock:
            self._undelivered[trial_id] = None
        self._events.put(partial(self._finish, trial_id, load_outcome))

    def close(self, timeout_seconds: float) -> DeliveryOutcome:
        """Deliver what is waiting, for at most so long, and say what is left. May be called again."""
        self._events.put(None)
        self._thread.join(timeout_seconds)
        self._stop.set()
        with self._lock:
            undelivered = tuple(self._undelivered)
            return DeliveryOutcome(undelivered, self._error or (self._outage if undelivered else None))

    def _log_waiting_epochs(self, trial_id: str) -> None:
        with self._lock:
            records = self._epochs.pop(trial_id, [])
        try:
            if records:
                self._tracker.log_epochs(trial_id, tuple(records))
        except StoreUnavailableError:
            with self._lock:
                self._epochs[trial_id] = records + self._epochs.get(trial_id, [])
            raise

    def _finish(self, trial_id: str, load_outcome: Callable[[], TrialOutcome]) -> None:
        self._tracker.finish_trial(load_outcome())
        with self._lock:
            self._undelivered.pop(trial_id, None)

    def _deliver_all(self) -> None:
        while (event := self._events.get()) is not None and not self._stop.is_set():
            try:
                self._deliver(event)
            except Exception as error:  # whatever it is: the study goes on, and `close` tells
                self._remember(error)

    def _deliver(self, event: Callable[[], None]) -> None:
        """Carry out one delivery, again and again while the store does not answer."""
        retry_seconds = FIRST_RETRY_SECONDS
        while not self._stop.is_set():
            try:
                event()
            except StoreUnavailableError as error:
                self._note_outage(error)
                self._stop.wait(retry_seconds)
                retry_seconds = min(2 * retry_seconds, LONGEST_RETRY_SECONDS)
            else:
                self._note_answer()
                return

    def _note_outage(self, error: Exception) -> None:
        if self._outage is None:
            _logger.warning("Tracking does not answer; the study goes on and results are kept: %s", error)
        self._outage = error

    def _note_answer(self) -> None:
        if self._outage is not None:
            _logger.warning("Tracking answers again")
            self._outage = None

    def _remember(self, error: Exception) -> None:
        if self._error is None:
            _logger.error("A result could not be tracked; the study goes on", exc_info=error)
            self._error = error
