"""One slot of a study: trials run in it one after the other, or several in one pass, in the same warm worker group.

A trial's failure is its result: it is recorded and the slot goes on. A lost rank is no result: the trials go on from
their last epoch in a fresh group, up to `MAX_RETRIES` times. What ends a pack as a whole says nothing about its single
trials, so the ones that are left then run one after the other. A trial that runs out of memory goes on from its last
epoch with a smaller micro-batch, and more of them a step, until it fits or the micro-batch is one image.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmark.result import EpochRecord, TrialResult, TrialStatus
from launch.limits import NO_LIMITS, TrialLimits
from launch.ranks import RankFailure, RankReport
from launch.worker_group import GroupFailedError, GroupStep, PastLimitError, WorkerGroup
from tuning.micro_batches import MicroBatches
from tuning.recorder import Assignment

MAX_RETRIES = 2


@dataclass(frozen=True)
class SlotReport:
    """What one trial brought.

    Attributes:
        trial_id: Whose it is.
        record: An epoch's record, or none at the end.
        status: How the trial ended, or none before.
    """

    trial_id: str
    record: EpochRecord | None = None
    status: TrialStatus | None = None


@dataclass(frozen=True)
class SlotStep:
    """What one step of a slot brought.

    Attributes:
        reports: One, or several trials'; none where all trials had ended before.
        is_last: Whether the slot has nothing left to do.
    """

    reports: list[SlotReport]
    is_last: bool = False


class Slot:
    """A worker group and the trials that are in it."""

    def __init__(self, group: WorkerGroup, recorder: Any, limits: TrialLimits = NO_LIMITS) -> None:
        """Describe an empty slot.

        Args:
            group: The ranks, not started yet.
            recorder: The actor that writes the ledger.
            limits: What ends a trial before it is done.
        """
        self._group = group
        self._recorder = recorder
        self._limits = limits
        self._sizes = MicroBatches()
        self._lots: list[list[str]] = []
        self._must_begin = False
        self._is_untouched = False
        self._num_retries = 0
        self._failure: RankFailure | None = None
        self._spent_seconds: dict[str, float] = {}
        self._charged_until_seconds = 0.0
        self._unwritten: list[Any] = []

    def take(self, trial_ids: Sequence[str], taken_at_seconds: float) -> None:
        """Take up a trial, or several to train in one pass; they begin with the first step.

        Not before, since Tune may start a slot for a trial, give that trial to another slot that has become free
        meanwhile, and then hand this slot the next one.

        Args:
            trial_ids: Which ones.
            taken_at_seconds: When they got the slot, Unix time; their wall time counts from there.
        """
        if not self._is_untouched:
            self._charged_until_seconds = taken_at_seconds
        self._lots = [list(trial_ids)]
        self._is_untouched = self._must_begin = True
        self._spent_seconds = {}
        self._num_retries = 0
        self._failure = None

    def step(self) -> SlotStep:
        """Run up to the ranks' next reports. Never raises for what happens inside a trial.

        Raises:
            SourceMismatchError: A rank imports other sources than the driver.
        """
        self._leave_out_what_ended()
        while self._lots:
            if self._must_begin:
                self._must_begin = False
                self._guarded(self._begin)
            step = None
            while step is None and self._failure is None:
                step = self._guarded(self._advance)
            if step is not None:
                return self._recorded(step)
            assert self._failure is not None
            if len(self._lots[0]) == 1:
                return SlotStep([self._close_failed(self._failure)], is_last=not self._lots)
            self._break_up()
        return SlotStep([], is_last=True)

    def end(self) -> None:
        """End the ranks, once all that they reported is written."""
        self._settle(keep=0)
        self._group.kill()

    def _leave_out_what_ended(self) -> None:
        import ray

        if self._is_untouched and len(self._lots[0]) > 1:
            self._lots = [lot for lot in [ray.get(self._recorder.still_open.remote(self._lots[0]))] if lot]
        self._is_untouched = False

    def _break_up(self) -> None:
        """Let the trials of a pack that failed as a whole go on one by one, each from its own last epoch."""
        self._lots[:1] = [[trial_id] for trial_id in self._lots[0]]
        self._must_begin = True
        self._num_retries = 0
        self._failure = None

    def _guarded(self, action: Any) -> Any:
        """Return the action's value; after what can be mended, begin again from the last epoch and return none."""
        try:
            return action()
        except GroupFailedError as error:
            failed = error
        while self._can_begin_again(failed):
            try:
                self._group.kill()
                self._group.await_settled_nodes()
                self._begin()
                return None
            except GroupFailedError as error:
                failed = error
        self._failure = failed.failure
        return None

    def _can_begin_again(self, failed: GroupFailedError) -> bool:
        if failed.failure.status is TrialStatus.OUT_OF_MEMORY:
            return len(self._lots[0]) == 1 and self._sizes.reduce()
        if not failed.is_lost or self._num_retries >= MAX_RETRIES:
            return False
        self._num_retries += 1
        return True

    def _advance(self) -> GroupStep:
        return self._group.advance(self._seconds_left())

    def _seconds_left(self) -> float | None:
        """Return how long these trials may still take: until the first of them is past its limit."""
        if self._limits.max_trial_seconds is None:
            return None
        lot = self._lots[0]
        spent = max(self._spent_seconds[trial_id] for trial_id in lot) + self._seconds_since_charge() / len(lot)
        return (self._limits.max_trial_seconds - spent) * len(lot)

    def _begin(self) -> None:
        import ray

        self._settle(keep=0)
        lot = self._lots[0]
        if self._spent_seconds.keys() >= set(lot) and (self._seconds_left() or 1) < 0:
            raise PastLimitError
        assigned = [self._recorder.begin.options(num_returns=2).remote(trial_id) for trial_id in lot]
        if not self._group.is_running:
            self._group.start()
        assignments: list[Assignment] = ray.get([assignment for assignment, _ in assigned])
        for trial_id, assignment in zip(lot, assignments, strict=True):
            self._spent_seconds.setdefault(trial_id, assignment.wall_seconds_before)
        specs = [assignment.spec_json for assignment in assignments]
        plan_json = self._sizes.plan_of(specs[0], assignments[0].plan_json)
        self._group.begin(plan_json, specs, [checkpoint for _, checkpoint in assigned])

    def _recorded(self, step: GroupStep) -> SlotStep:
        """Write down what a step brought."""
        self._charge()
        self._record_epochs(step)
        reports = [self._reported(report, step) for report in step.reports]
        return SlotStep(reports, is_last=not self._lots)

    def _record_epochs(self, step: GroupStep) -> None:
        spent = self._spent_seconds
        records = [(one.trial_id, one.record, spent[one.trial_id]) for one in step.reports if one.record is not None]
        if records:
            # The next epoch runs while this one is written; one a trial may be on its way, no more.
            self._settle(keep=len(self._lots[0]) - len(step.reports))
            self._unwritten.append(self._recorder.record_epochs.remote(records, step.checkpoints))

    def _reported(self, report: RankReport, step: GroupStep) -> SlotReport:
        if report.record is not None:
            return SlotReport(report.trial_id, record=report.record)
        if report.given_up is not None:
            return self._close(report.trial_id, self._write_failure(report.trial_id, report.given_up))
        assert report.result is not None
        result = self._with_wall_seconds(report.result)
        self._settle(keep=0)
        self._unwritten.append(self._recorder.record_result.remote(result, step.checkpoints, step.predictions))
        return self._close(report.trial_id, result.status)

    def _close_failed(self, failure: RankFailure) -> SlotReport:
        self._charge()
        (trial_id,) = self._lots[0]
        self._failure = None
        reason = failure.reason
        if failure.status is TrialStatus.OUT_OF_MEMORY:
            reason += self._sizes.story()
        if self._num_retries:
            reason += f" (after {self._num_retries} retries from the last epoch)"
        return self._close(trial_id, self._write_failure(trial_id, RankFailure(failure.status, reason)))

    def _write_failure(self, trial_id: str, failure: RankFailure) -> TrialStatus:
        self._settle(keep=0)
        self._unwritten.append(self._recorder.record_failure.remote(trial_id, failure.status, failure.reason))
        return failure.status

    def _close(self, trial_id: str, status: TrialStatus) -> SlotReport:
        """Take a trial that has ended out of the slot; after the last of a lot the next one begins."""
        self._settle(keep=0)
        self._lots[0].remove(trial_id)
        if not self._lots[0]:
            del self._lots[0]
            self._must_begin = True
            self._num_retries = 0
        return SlotReport(trial_id, status=status)

    def _with_wall_seconds(self, result: TrialResult) -> TrialResult:
        if result.cost is None:
            return result
        spent = self._spent_seconds[result.trial_id]
        return result.model_copy(update={"cost": result.cost.model_copy(update={"wall_seconds": spent})})

    def _charge(self) -> None:
        """Share the time since the last report among the trials that ran meanwhile."""
        lot, seconds = self._lots[0], self._seconds_since_charge()
        for trial_id in lot:
            self._spent_seconds[trial_id] = self._spent_seconds.get(trial_id, 0.0) + seconds / len(lot)
        self._charged_until_seconds += seconds

    def _seconds_since_charge(self) -> float:
        return time.time() - self._charged_until_seconds

    def _settle(self, keep: int) -> None:
        """Wait until at most `keep` of the writes are still on their way."""
        import ray

        while len(self._unwritten) > keep:
            ray.get(self._unwritten.pop(0))
