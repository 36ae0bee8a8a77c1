"""One `Tuner.fit`: quiet, with nothing of Tune's own kept, and the driver's side of what the slots report."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from ray import tune
from ray.tune import Callback, Stopper

from benchmark.result import EpochRecord, TrialStatus
from tuning.placement_watch import PlacementWatch
from tuning.trainable import (
    REFUSAL,
    REPORTS,
    TRIAL_IDS,
    SlotSettings,
    SlotTrainable,
    ids_of,
    joined_ids,
)

QUIET_SECONDS = 1.0
"""Without a trial that starts; later slots, which start at about the same time, are then not kept waiting."""

_QUIET_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_WARN_SLOW_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "1000000",
    # The ledger is the truth: Tune need not save its own state, which would be read by nobody.
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    # Tune's handler would end the run as if it had been successful.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}


class Observer(Protocol):
    """Who is told, in the driver, how the trials get on. A retried trial may repeat an epoch."""

    def on_trial_started(self, trial_id: str, num_sharing: int) -> None:
        """A trial has got its slot, which so many trials share, itself included."""

    def on_quiet(self) -> None:
        """Once, when the first trials have started and nothing else has happened for a while: time to prepare."""

    def on_epoch(self, trial_id: str, record: EpochRecord) -> None:
        """A trial has ended an epoch."""

    def on_trial_ended(self, trial_id: str, status: TrialStatus) -> None:
        """A trial has ended, and the ledger holds its outcome."""


class DriverSide(Callback, Stopper):
    """Passes what Tune reports to the observer, and ends the run when it must not go on."""

    def __init__(self, observer: Observer, should_stop: Callable[[], bool]) -> None:
        """Connect the two.

        Args:
            observer: Who is told.
            should_stop: Asked now and then; once true, the trials that run are left interrupted.
        """
        self._observer = observer
        self._should_stop = should_stop
        self.statuses: dict[str, TrialStatus] = {}
        self.cut_short: list[str] = []
        self.errors: dict[str, str] = {}
        self.refusal: str | None = None
        self._started: set[str] = set()
        self._quiet_from = 0.0
        self._was_quiet = False
        self._is_stopping = False
        self._placement = PlacementWatch()
        self.is_stuck = False

    def __getstate__(self) -> dict[str, Any]:
        """Leave the observer out of the copy of itself that the Tuner saves: it holds locks, and is never restored."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Tune: an actor has taken the trials."""
        trial_ids = ids_of(trial.config)
        for trial_id in trial_ids:
            if trial_id not in self._started:
                self._started.add(trial_id)
                self._quiet_from = time.monotonic() + QUIET_SECONDS
                self._observer.on_trial_started(trial_id, len(trial_ids))

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Tune: it has dealt with what there was."""
        if not self._was_quiet and self._started and time.monotonic() > self._quiet_from:
            self._was_quiet = True
            self._observer.on_quiet()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Tune: a step has ended."""
        if REFUSAL in result:
            self.refusal = result[REFUSAL]
        for report in result.get(REPORTS, ()):
            if report.record is not None:
                self._observer.on_epoch(report.trial_id, report.record)
            if report.status is not None:
                self.statuses[report.trial_id] = report.status
                self._observer.on_trial_ended(report.trial_id, report.status)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Tune: the trials are over, by themselves or because the search gave one up."""
        if not self._is_stopping and self.refusal is None:
            self.cut_short += self._open_of(trial)
        _forget_means(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Tune: the slot itself was lost, with all retries."""
        error = str(trial.get_error() or "the slot's process was lost")
        self.errors |= dict.fromkeys(self._open_of(trial), error)

    def _open_of(self, trial: Any) -> list[str]:
        return [trial_id for trial_id in ids_of(trial.config) if trial_id not in self.statuses]

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Tune: no trial is stopped on its own."""
        return False

    def stop_all(self) -> bool:
        """Tune: whether the whole run ends."""
        self.is_stuck = self.is_stuck or self._placement.is_stuck()
        self._is_stopping = self._is_stopping or self.is_stuck or self.refusal is not None or self._should_stop()
        return self._is_stopping


def _forget_means(trial: Any) -> None:
    """Let go what Tune keeps of each number that an ended trial reported, to name the best trial: nobody asks it to."""
    trial.run_metadata.metric_analysis.clear()
    trial.run_metadata.metric_n_steps.clear()


def run_tune(
    packs: Sequence[Sequence[str]],
    settings: SlotSettings,
    driver_side: DriverSide,
    folder: Path,
    trial_scheduler: Any = None,
    max_slot_failures: int = 2,
    max_concurrent: int | None = None,
) -> None:
    """Run one group of equal-shaped trials to their ends.

    Args:
        packs: The ids of the trials that share a slot, in this order; most often one alone.
        settings: What their slots share.
        driver_side: Who listens.
        folder: Where Tune may keep its files; they go with it.
        trial_scheduler: Ray's, to give up trials of a search early; none runs each to its end.
        max_slot_failures: How often a trial whose slot was lost is begun again.
        max_concurrent: How many slots there are at most.
    """
    with _quiet():
        tuner = tune.Tuner(
            tune.with_resources(SlotTrainable, _placement(settings)),
            param_space={TRIAL_IDS: tune.grid_search([joined_ids(pack) for pack in packs]), "settings": settings},
            tune_config=tune.TuneConfig(
                reuse_actors=True,
                num_samples=1,
                max_concurrent_trials=max_concurrent,
                scheduler=trial_scheduler,
                trial_name_creator=_trial_name,
                trial_dirname_creator=_trial_name,
            ),
            run_config=tune.RunConfig(
                name="study",
                storage_path=str(folder),
                verbose=0,
                stop=driver_side,
                callbacks=[driver_side],
                failure_config=tune.FailureConfig(max_failures=max_slot_failures),
                checkpoint_config=tune.CheckpointConfig(num_to_keep=1, checkpoint_at_end=False),
            ),
        )
        tuner.fit()


def _placement(settings: SlotSettings) -> tune.PlacementGroupFactory:
    shape = settings.shape
    # The slot's own bundle is empty: with a CPU in it STRICT_PACK can become infeasible, and Tune waits for ever.
    bundles: list[dict[str, float]] = [{}] + [shape.resources.bundle()] * shape.num_workers
    return tune.PlacementGroupFactory(bundles, strategy=shape.resources.placement_strategy)


def _trial_name(trial: Any) -> str:
    return ids_of(trial.config)[0]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in _QUIET_ENVIRONMENT}
    os.environ.update(_QUIET_ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
