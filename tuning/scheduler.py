"""Runs the trials of a study: what is done is skipped, what was interrupted goes on, and one failure ends one trial."""

from __future__ import annotations

import contextlib
import importlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmark.errors import MissingError, RequestError, SourceMismatchError
from benchmark.garbage import lasting_imports
from benchmark.result import TrialStatus
from launch.cluster import Cluster, connect, living_nodes
from launch.fork_start import Preload, end_early
from launch.interrupts import termination_as_interrupt
from launch.limits import NO_LIMITS, TrialLimits
from launch.ranks import TrialProgram
from launch.resources import check_feasible, count_slots
from launch.worker_group import GroupShape
from tuning.elastic import CapacityWatch, fitted
from tuning.ledger import Ledger
from tuning.packing import packed
from tuning.recorder import record_failure, start_recorder
from tuning.scheduled_trial import ScheduledTrial

if TYPE_CHECKING:
    from tuning.trainable import SlotSettings
    from tuning.tune_run import DriverSide, Observer

WORKER_MODULES = ("tuning.trainable", "launch.ranks")
"""What slots and ranks import before anything of a trial's."""

_logger = logging.getLogger(__name__)


_PLACEMENT_IS_STUCK = (
    "The Ray cluster places no trial though it has room for one, as it may after a node froze. What was recorded "
    "stays: restart the cluster (`ray stop`, `ray start`), and run the same command again."
)


def run_trials(
    trials: Sequence[ScheduledTrial],
    cluster_address: str,
    ledger: Ledger,
    observer: Observer,
    num_cpus: int | None = None,
    *,
    study: str,
    program: TrialProgram | None = None,
    meanwhile: Callable[[], None] = lambda: None,
    on_connected: Callable[[], None] = lambda: None,
    on_over: Callable[[], None] = lambda: None,
    should_stop: Callable[[], bool] = lambda: False,
    trial_scheduler: Callable[[], Any] = lambda: None,
    next_round: Callable[[], Sequence[ScheduledTrial]] = lambda: (),
    max_trials_per_pack: int = 1,
    max_concurrent_trials: int | None = None,
    wait_for_nodes_seconds: float = 60.0,
    limits: TrialLimits = NO_LIMITS,
) -> dict[str, TrialStatus]:
    """Run those trials that have no final status yet, as many at once as the cluster holds.

    Args:
        trials: The study's trials, in the order they should start; of two, that of higher priority first.
        cluster_address: `local`, `auto` or `HOST:PORT`.
        ledger: What is done, and where it is recorded.
        observer: Told in this process how the trials get on.
        num_cpus: CPUs of an own cluster.
        study: The study's name, for the ledger.
        program: What the ranks run.
        meanwhile: Called while the processes of an own cluster start, to prepare what needs none.
        on_connected: Called once the cluster stands and every trial fits on it, before the first one starts.
        on_over: Called when nothing runs any more, in a thread, while the connection is taken down.
        should_stop: Asked now and then; once true, what runs is left interrupted, to go on another time.
        trial_scheduler: Makes Ray Tune's for each round, to give up the trials of a search early.
        next_round: Asked when all have ended: the trials that are known only now; none ends the run.
        max_trials_per_pack: How many trials may train in one pass; 1: each alone.
        max_concurrent_trials: How many may train at once, a pack counting as one; none: what the cluster holds.
        wait_for_nodes_seconds: How long a trial that may have fewer workers waits for a lost node's replacement.
        limits: What ends a trial before it is done.

    Returns:
        The status of each trial that ended in this run.

    Raises:
        MissingError: A trial can never fit on the cluster, or there is none, or it places nothing any more.
        RequestError: The address or a trial's resources are wrong.
        SourceMismatchError: A worker runs other sources than this process.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the ranks are gone and what was recorded can be resumed.
    """
    open_trials = _without_final(trials, ledger)
    if not open_trials:
        end_early()
        return {}
    _check_devices(open_trials)
    statuses: dict[str, TrialStatus] = {}
    what = program or TrialProgram()
    preload = Preload(WORKER_MODULES, what.modules, open_trials[0].plan.threads_per_worker)
    with (
        _concluded() as conclude,
        connect(cluster_address, num_cpus, lambda: _import_meanwhile(meanwhile), preload) as cluster,
        termination_as_interrupt(),
    ):
        _check_feasible(open_trials, cluster)
        on_connected()
        pace = _Pace(max_trials_per_pack, max_concurrent_trials, wait_for_nodes_seconds)
        run = _Run(cluster, ledger, study, what, observer, should_stop, trial_scheduler, pace, limits)
        while open_trials:
            statuses |= run.run(open_trials)
            open_trials = [] if should_stop() else _without_final(next_round(), ledger)
            _check_feasible(open_trials, cluster)
        conclude(on_over)
    return statuses


def _import_meanwhile(then: Callable[[], None]) -> None:
    """Use the time in which others start for what takes seconds to import."""
    with lasting_imports():
        importlib.import_module("tuning.tune_run")
        then()


@contextlib.contextmanager
def _concluded() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Give what starts a last piece of work in a thread; on the way out wait for it, and raise what it raised."""
    with ThreadPoolExecutor(1, "conclusion") as thread:
        started: list[Future[None]] = []
        yield lambda work: started.append(thread.submit(work))
        for work in started:
            work.result()


def _check_feasible(trials: Sequence[ScheduledTrial], cluster: Cluster) -> None:
    for trial in trials:
        if fitted(trial, cluster.nodes) is None:
            check_feasible(trial.resources, trial.plan.num_workers, cluster.nodes)


@dataclass(frozen=True)
class _Pace:
    max_trials_per_pack: int
    max_concurrent_trials: int | None
    wait_for_nodes_seconds: float


class _Run:
    """One call of `run_trials`, connected to its cluster."""

    def __init__(
        self,
        cluster: Cluster,
        ledger: Ledger,
        study: str,
        program: TrialProgram,
        observer: Observer,
        should_stop: Callable[[], bool],
        trial_scheduler: Callable[[], Any],
        pace: _Pace,
        limits: TrialLimits,
    ) -> None:
        self._cluster = cluster
        self._ledger = ledger
        self._study = study
        self._program = program
        self._observer = observer
        self._should_stop = should_stop
        self._trial_scheduler = trial_scheduler
        self._pace = pace
        self._limits = limits

    def run(self, trials: Sequence[ScheduledTrial]) -> dict[str, TrialStatus]:
        """Run trials to their ends, those of one shape together; where nodes go for good, with fewer workers."""
        statuses: dict[str, TrialStatus] = {}
        asked = {trial.spec.trial_id: trial for trial in trials}
        for group in in_turn(self._fitted(trials)):
            watch = CapacityWatch(group, self._pace.wait_for_nodes_seconds)
            statuses |= self._run_group(group, watch)
            if watch.has_given_up and not self._should_stop():
                ended = {trial_id for trial_id, status in statuses.items() if status is not TrialStatus.NODE_LOST}
                put_back = [asked[trial.spec.trial_id] for trial in group if trial.spec.trial_id not in ended]
                statuses |= self.run(_without_final(put_back, self._ledger))
        return statuses

    def _fitted(self, trials: Sequence[ScheduledTrial]) -> list[ScheduledTrial]:
        """Return the trials with as many of their workers as the cluster holds now."""
        nodes = living_nodes()
        fitting = [fitted(trial, nodes) or trial for trial in trials]
        for asked, workers in sorted({_workers(trial) for trial in fitting if trial.plan.num_workers_asked}):
            message = "The cluster holds no trial of %d workers now: it goes on with %d, its batch being the same"
            _logger.warning(message, asked, workers)
        return fitting

    def _run_group(self, group: Sequence[ScheduledTrial], watch: CapacityWatch) -> dict[str, TrialStatus]:
        """Run trials of one shape in one `Tuner.fit`."""
        # Ray Tune takes seconds to import, and a study that is already done does not need it.
        from tuning.tune_run import DriverSide, run_tune

        if self._should_stop():
            return {}
        driver_side = DriverSide(self._observer, lambda: self._should_stop() or watch.is_too_small())
        trials = {trial.spec.trial_id: (trial.spec.model_dump_json(), trial.plan.model_dump_json()) for trial in group}
        shape, cap = group[0].shape, self._pace.max_concurrent_trials
        num_slots = count_slots(shape.resources, shape.num_workers, living_nodes())
        packs = packed(group, self._pace.max_trials_per_pack, min(num_slots, cap or num_slots))
        run_tune(
            [[trial.spec.trial_id for trial in pack] for pack in packs],
            self._settings(shape, trials),
            driver_side,
            self._cluster.folder / "tune",
            self._trial_scheduler(),
            max_concurrent=cap,
        )
        if driver_side.refusal is not None:
            raise SourceMismatchError(driver_side.refusal)
        if driver_side.is_stuck:
            raise MissingError(_PLACEMENT_IS_STUCK)
        return driver_side.statuses | self._record_the_rest(driver_side, trials)

    def _settings(self, shape: GroupShape, trials: dict[str, tuple[str, str]]) -> SlotSettings:
        from tuning.trainable import SlotSettings

        node_id, folder = self._cluster.driver_node_id, self._cluster.folder
        recorder = start_recorder(self._ledger.output_directory, self._study, trials, node_id, folder)
        return SlotSettings(shape, self._program, self._cluster.sources, recorder, time.time(), self._limits)

    def _record_the_rest(self, driver_side: DriverSide, trials: dict[str, tuple[str, str]]) -> dict[str, TrialStatus]:
        """Record the trials whose slot could not do it: given up by the search, or lost with their slot.

        One that the ledger knows as ended stays as it is: its slot was lost before this process heard of it.
        """
        endings = dict.fromkeys(driver_side.cut_short, (TrialStatus.PRUNED, "given up by the search"))
        endings |= {trial_id: (TrialStatus.NODE_LOST, error) for trial_id, error in driver_side.errors.items()}
        entries = self._ledger.entries(list(endings))
        statuses: dict[str, TrialStatus] = {}
        for trial_id, (status, reason) in endings.items():
            entry = entries.get(trial_id)
            if entry is not None and entry.is_final:
                statuses[trial_id] = TrialStatus(entry.state)
            else:
                record_failure(self._ledger, self._study, trials[trial_id][0], status, reason)
                statuses[trial_id] = status
            self._observer.on_trial_ended(trial_id, statuses[trial_id])
        return statuses


def _without_final(trials: Sequence[ScheduledTrial], ledger: Ledger) -> list[ScheduledTrial]:
    entries = ledger.entries([trial.spec.trial_id for trial in trials])
    unique = {trial.spec.trial_id: trial for trial in trials}
    ended = {trial_id for trial_id, entry in entries.items() if entry.is_final}
    return [trial for trial_id, trial in unique.items() if trial_id not in ended]


def in_turn(trials: Sequence[ScheduledTrial]) -> list[list[ScheduledTrial]]:
    """Return the trials in groups that run one after the other: by priority, then by shape.

    Trials of one shape share slots, which take seconds to start: where two groups of one shape follow each other, they
    are one.
    """
    groups: list[list[ScheduledTrial]] = []
    for priority in sorted({trial.priority for trial in trials}, reverse=True):
        level: dict[GroupShape, list[ScheduledTrial]] = {}
        for trial in trials:
            if trial.priority == priority:
                level.setdefault(trial.shape, []).append(trial)
        if groups and groups[-1][0].shape in level:
            groups[-1] += level.pop(groups[-1][0].shape)
        groups += level.values()
    return groups


def _workers(trial: ScheduledTrial) -> tuple[int, int]:
    return trial.plan.num_workers_asked or trial.plan.num_workers, trial.plan.num_workers


def _check_devices(trials: Sequence[ScheduledTrial]) -> None:
    for trial in trials:
        gpus = trial.resources.gpus_per_worker
        if trial.plan.device == "cuda" and gpus <= 0:
            raise RequestError("resources.gpus_per_worker", gpus, "workers that compute on GPUs must reserve some")
