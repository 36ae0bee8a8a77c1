"""The bridge to Ray Tune: one Tune actor is one slot, which keeps its ranks warm from trial to trial."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmark.errors import SourceMismatchError
from benchmark.garbage import lasting_imports
from launch.limits import NO_LIMITS, TrialLimits
from launch.ranks import TrialProgram
from launch.staging import Sources
from launch.worker_group import GroupShape, WorkerGroup
from tuning.slot import Slot

with lasting_imports():
    from ray import tune

TRIAL_IDS = "benchmark_trial_ids"
"""The key of Tune's configuration for the trials of a pack, or the one trial. Tune has a `trial_id` of its own."""

REPORTS = "reports"
REFUSAL = "refusal"
"""Keys of what a step reports: what trials brought (`SlotReport`), or why no trial may run here."""

_SEPARATOR = ","


def joined_ids(trial_ids: Sequence[str]) -> str:
    """Return the ids of a pack as one value of Tune's configuration, which resolves lists in its own ways."""
    return _SEPARATOR.join(trial_ids)


def ids_of(config: Mapping[str, Any]) -> list[str]:
    """Return the ids of the trials that a configuration names."""
    return str(config[TRIAL_IDS]).split(_SEPARATOR)


@dataclass(frozen=True)
class SlotSettings:
    """What all slots of one group of trials share.

    Attributes:
        shape: Ranks and what each occupies.
        program: What they run.
        sources: The driver's sources, which everyone's must equal.
        recorder: The actor that writes the ledger.
        started_at_seconds: When the driver handed the trials over, Unix time.
        limits: What ends a trial before it is done.
    """

    shape: GroupShape
    program: TrialProgram
    sources: Sources
    recorder: Any
    started_at_seconds: float
    limits: TrialLimits = NO_LIMITS


class SlotTrainable(tune.Trainable):
    """Runs trials in one slot; a step is an epoch of one of them, or of several that train in one pass."""

    def setup(self, config: dict[str, Any]) -> None:
        """Take the slot and the first trials. The slot's start is part of their wall time."""
        import ray

        settings: SlotSettings = config["settings"]
        placement, limits = ray.util.get_current_placement_group(), settings.limits
        group = WorkerGroup(settings.shape, settings.program, settings.sources, placement, limits)
        self._slot = Slot(group, settings.recorder, limits)
        self._slot.take(ids_of(config), max(settings.started_at_seconds, process_started_at_seconds()))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trials into the warm slot."""
        self.config = new_config
        self._slot.take(ids_of(new_config), time.time())
        return True

    def step(self) -> dict[str, Any]:
        """Run up to the next epoch of a trial, or of several side by side, or to a trial's end."""
        try:
            step = self._slot.step()
        except SourceMismatchError as error:
            return {REFUSAL: str(error), "done": True}
        # What a search decides by: its trials are alone, since one of a pack cannot be given up by Tune.
        alone = step.reports[0].record if len(step.reports) == 1 else None
        scores = {"epoch": alone.epoch, "validation_top1": alone.validation_top1} if alone else {}
        return {REPORTS: step.reports, **scores, "done": step.is_last}

    def get_auto_filled_metrics(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Leave the configuration out of what Tune adds to a report: the driver has it, and would keep every copy."""
        metrics: dict[str, Any] = super().get_auto_filled_metrics(*arguments, **options)
        metrics.pop("config", None)
        return metrics

    def cleanup(self) -> None:
        """End the ranks with the slot."""
        self._slot.end()


def process_started_at_seconds() -> float:
    """Return when this process was started, Unix time."""
    import psutil

    return float(psutil.Process().create_time())
