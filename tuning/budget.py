"""What one `run` may spend: hours by the clock, and hours of the GPUs that its trials hold."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from benchmark.errors import RequestError
from tuning.scheduled_trial import ScheduledTrial


def check_budget(trials: Sequence[ScheduledTrial], max_gpu_hours: float | None) -> None:
    """Refuse a budget of GPU-hours that could never be spent.

    Raises:
        RequestError: No trial of the study reserves a GPU.
    """
    if max_gpu_hours is not None and not any(trial.num_gpus for trial in trials):
        rule = "the study's trials reserve no GPUs, so this budget would never end it"
        hint = "Use --max-hours, or give the study resources: {gpus_per_worker: 1}."
        raise RequestError("--max-gpu-hours", max_gpu_hours, rule, hint)


class Budget:
    """Counts what a run spends from the moment it is made."""

    def __init__(
        self,
        max_hours: float | None = None,
        max_gpu_hours: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin to count.

        Args:
            max_hours: By the clock; none for as long as it takes.
            max_gpu_hours: A GPU counts while a trial holds it, computing or not; none for as many as it takes.
            clock: Returns seconds.
        """
        self._max_hours, self._max_gpu_hours, self._clock = max_hours, max_gpu_hours, clock
        self._started_at_seconds = clock()
        self._held: dict[str, tuple[float, float]] = {}
        self._gpu_seconds = 0.0

    def trial_started(self, trial_id: str, num_gpus: float) -> None:
        """Count a trial's GPUs from now on; its share of them, where several trials train in one pass.

        One that was running, and begins again elsewhere, has held its GPUs so far.
        """
        self.trial_ended(trial_id)
        self._held[trial_id] = (num_gpus, self._clock())

    def trial_ended(self, trial_id: str) -> None:
        """Count a trial's GPUs no longer."""
        self._gpu_seconds += self._seconds_of({trial_id: self._held.pop(trial_id, (0, 0.0))})

    def gpu_hours(self) -> float:
        """Return the GPU-hours so far, those of trials that run included."""
        return (self._gpu_seconds + self._seconds_of(self._held)) / 3600.0

    def spent(self) -> str | None:
        """Return which option's budget is spent; none while the run may go on."""
        hours = (self._clock() - self._started_at_seconds) / 3600.0
        if self._max_hours is not None and hours >= self._max_hours:
            return f"--max-hours {self._max_hours:g}"
        if self._max_gpu_hours is not None and self.gpu_hours() >= self._max_gpu_hours:
            return f"--max-gpu-hours {self._max_gpu_hours:g}"
        return None

    def _seconds_of(self, held: Mapping[str, tuple[float, float]]) -> float:
        now = self._clock()
        return sum(gpus * (now - since) for gpus, since in held.values())
