"""One slot of a study: trials run in it one after the other, in the same warm worker group.

A trial's failure is its result: it is recorded and the slot goes on. A lost rank is no result: the trial goes on from
its last epoch in a fresh group, up to `MAX_RETRIES` times.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from benchmark.result import EpochRecord, TrialResult, TrialStatus
from launch.ranks import RankFailure
from launch.worker_group import GroupFailedError, GroupStep, WorkerGroup
from tuning.recorder import Assignment

MAX_RETRIES = 2


@dataclass(frozen=True)
class SlotStep:
    """What one step of a slot brought: an epoch's record, or the status that ended the trial."""

    record: EpochRecord | None = None
    status: TrialStatus | None = None


class Slot:
    """A worker group and the trial that is in it."""

    def __init__(self, group: WorkerGroup, recorder: Any) -> None:
        """Describe an empty slot.

        Args:
            group: The ranks, not started yet.
            recorder: The actor that writes the ledger.
        """
        self._group = group
        self._recorder = recorder
        self._trial_id = ""
        self._assignment: Assignment | None = None
        self._taken_at_seconds = 0.0
        self._is_untouched = False
        self._num_retries = 0
        self._failure: RankFailure | None = None
        self._unwritten: list[Any] = []

    def take(self, trial_id: str, taken_at_seconds: float) -> None:
        """Take up a trial; it begins with its first step.

        Not before, since Tune may start a slot for a trial, give that trial to another slot that has become free
        meanwhile, and then hand this slot the next one.

        Args:
            trial_id: Which one.
            taken_at_seconds: When it got the slot, Unix time; its wall time counts from there.
        """
        if not self._is_untouched:
            self._taken_at_seconds = taken_at_seconds
        self._trial_id = trial_id
        self._is_untouched = True
        self._num_retries = 0
        self._failure = None

    def step(self) -> SlotStep:
        """Run the trial up to its next report. Never raises for what happens inside a trial.

        Raises:
            SourceMismatchError: A rank imports other sources than the driver.
        """
        if self._is_untouched:
            self._is_untouched = False
            self._guarded(self._begin)
        step = None
        while step is None and self._failure is None:
            step = self._guarded(self._group.advance)
        if step is None:
            assert self._failure is not None
            return self._close_failed(self._failure)
        return self._close(step) if step.result is not None else self._record_epoch(step)

    def end(self) -> None:
        """End the ranks, once all that they reported is written."""
        self._settle(keep=0)
        self._group.kill()

    def _guarded(self, action: Any) -> Any:
        """Return the action's value; when a rank is lost, begin again from the last epoch and return none."""
        try:
            return action()
        except GroupFailedError as error:
            lost = error
        while lost.is_lost and self._num_retries < MAX_RETRIES:
            self._num_retries += 1
            try:
                self._group.kill()
                self._group.await_settled_nodes()
                self._begin()
                return None
            except GroupFailedError as error:
                lost = error
        self._failure = lost.failure
        return None

    def _begin(self) -> None:
        import ray

        self._settle(keep=0)
        assigned = self._recorder.begin.options(num_returns=2).remote(self._trial_id)
        if not self._group.is_running:
            self._group.start()
        self._assignment = ray.get(assigned[0])
        self._group.begin(self._assignment.spec_json, self._assignment.plan_json, assigned[1])

    def _record_epoch(self, step: GroupStep) -> SlotStep:
        assert step.record is not None
        # The next epoch runs while this one is written; one may be on its way, no more.
        self._settle(keep=1)
        self._unwritten.append(
            self._recorder.record_epoch.remote(self._trial_id, step.record, step.checkpoint, self._wall_seconds())
        )
        return SlotStep(record=step.record)

    def _close(self, step: GroupStep) -> SlotStep:
        assert step.result is not None
        self._settle(keep=0)
        result = self._with_wall_seconds(step.result)
        self._unwritten.append(self._recorder.record_result.remote(result, step.checkpoint, step.predictions))
        self._settle(keep=0)
        return SlotStep(status=result.status)

    def _close_failed(self, failure: RankFailure) -> SlotStep:
        self._settle(keep=0)
        reason = failure.reason
        if self._num_retries:
            reason += f" (after {self._num_retries} retries from the last epoch)"
        self._unwritten.append(self._recorder.record_failure.remote(self._trial_id, failure.status, reason))
        self._settle(keep=0)
        return SlotStep(status=failure.status)

    def _with_wall_seconds(self, result: TrialResult) -> TrialResult:
        if result.cost is None:
            return result
        return result.model_copy(update={"cost": result.cost.model_copy(update={"wall_seconds": self._wall_seconds()})})

    def _wall_seconds(self) -> float:
        before = self._assignment.wall_seconds_before if self._assignment else 0.0
        return time.time() - self._taken_at_seconds + before

    def _settle(self, keep: int) -> None:
        """Wait until at most `keep` of the writes are still on their way."""
        import ray

        while len(self._unwritten) > keep:
            ray.get(self._unwritten.pop(0))
