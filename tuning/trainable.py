"""The bridge to Ray Tune: one Tune actor is one slot, which keeps its ranks warm from trial to trial."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from ray import tune

from benchmark.errors import SourceMismatchError
from launch.ranks import TrialProgram
from launch.staging import Sources
from launch.worker_group import GroupShape, WorkerGroup
from tuning.slot import Slot

TRIAL_ID = "benchmark_trial_id"
"""The key under which Tune's configuration names a trial. Tune has a `trial_id` of its own."""

RECORD = "record"
STATUS = "status"
REFUSAL = "refusal"
"""Keys of what a step reports: an epoch's JSON, the trial's final status, or why no trial may run here."""


@dataclass(frozen=True)
class SlotSettings:
    """What all slots of one group of trials share.

    Attributes:
        shape: Ranks and what each occupies.
        program: What they run.
        sources: The driver's sources, which everyone's must equal.
        recorder: The actor that writes the ledger.
        started_at_seconds: When the driver handed the trials over, Unix time.
    """

    shape: GroupShape
    program: TrialProgram
    sources: Sources
    recorder: Any
    started_at_seconds: float


class SlotTrainable(tune.Trainable):
    """Runs trials in one slot; a step is an epoch."""

    def setup(self, config: dict[str, Any]) -> None:
        """Take the slot and the first trial. The slot's start is part of that trial's wall time."""
        import ray

        settings: SlotSettings = config["settings"]
        group = WorkerGroup(settings.shape, settings.program, settings.sources, ray.util.get_current_placement_group())
        self._slot = Slot(group, settings.recorder)
        self._slot.take(config[TRIAL_ID], max(settings.started_at_seconds, process_started_at_seconds()))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial into the warm slot."""
        self.config = new_config
        self._slot.take(new_config[TRIAL_ID], time.time())
        return True

    def step(self) -> dict[str, Any]:
        """Run one epoch, or the end of the trial."""
        try:
            step = self._slot.step()
        except SourceMismatchError as error:
            return {REFUSAL: str(error), "done": True}
        if step.record is not None:
            scores = {"epoch": step.record.epoch, "validation_top1": step.record.validation_top1}
            return {RECORD: step.record.model_dump_json(), **scores}
        assert step.status is not None
        return {STATUS: step.status.value, "done": True}

    def cleanup(self) -> None:
        """End the ranks with the slot."""
        self._slot.end()


def process_started_at_seconds() -> float:
    """Return when this process was started, Unix time."""
    import psutil

    return float(psutil.Process().create_time())
