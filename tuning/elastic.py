"""Fewer workers where nodes are gone: the same global batch by accumulation, so the same result."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

from benchmark.launch_plan import with_fewer_workers
from launch.cluster import living_nodes
from launch.resources import Node, fits
from tuning.scheduled_trial import ScheduledTrial

_SECONDS_BETWEEN_LOOKS = 1.0


def fitted(trial: ScheduledTrial, nodes: tuple[Node, ...]) -> ScheduledTrial | None:
    """Return a trial with as many of its workers as the nodes hold and its batch divides by; none where too few.

    Args:
        trial: As it was asked for.
        nodes: The living ones.
    """
    asked = trial.plan.num_workers
    if fits(trial.resources, asked, nodes):
        return trial
    for num_workers in range(asked - 1, (trial.min_workers or asked) - 1, -1):
        plan = with_fewer_workers(trial.plan, num_workers)
        if plan is not None and fits(trial.resources, num_workers, nodes):
            return dataclasses.replace(trial, plan=plan)
    return None


def _may_shrink(trial: ScheduledTrial) -> bool:
    return trial.min_workers is not None and trial.min_workers < trial.plan.num_workers


class CapacityWatch:
    """Tells when the cluster has been too small for some trials for too long, but holds them with fewer workers."""

    def __init__(
        self,
        trials: Sequence[ScheduledTrial],
        patience_seconds: float,
        nodes: Callable[[], tuple[Node, ...]] = living_nodes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin to watch.

        Args:
            trials: Of one shape, as they run now.
            patience_seconds: How long a replacement may take.
            nodes: Returns the living nodes.
            clock: Returns seconds.
        """
        self._trials = [trial for trial in trials if _may_shrink(trial)]
        self._patience_seconds, self._nodes, self._clock = patience_seconds, nodes, clock
        self._too_small_since: float | None = None
        self._next_look = clock()
        self.has_given_up = False

    def is_too_small(self) -> bool:
        """Return whether the trials should go on with fewer workers."""
        if self._trials and self._clock() >= self._next_look and not self.has_given_up:
            self._next_look = self._clock() + _SECONDS_BETWEEN_LOOKS
            self._look()
        return self.has_given_up

    def _look(self) -> None:
        nodes = self._nodes()
        can_shrink = all((small := fitted(trial, nodes)) is not None and small is not trial for trial in self._trials)
        if not can_shrink:
            self._too_small_since = None
            return
        if self._too_small_since is None:
            self._too_small_since = self._clock()
        self.has_given_up = self._clock() - self._too_small_since >= self._patience_seconds
