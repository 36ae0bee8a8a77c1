"""The writer of the ledger: a small actor beside the driver, to which the ranks' bytes come from every node."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.result import EpochRecord, TrialOutcome, TrialResult, TrialStatus
from benchmark.spec import TrialSpec
from launch.ranks import Checkpoints
from tuning.ledger import Ledger
from tuning.soups import ingredients


@dataclass(frozen=True)
class Assignment:
    """What a slot needs to run one trial.

    Attributes:
        spec_json: The trial's spec.
        plan_json: Its launch plan.
        wall_seconds_before: What earlier tries cost up to the point it goes on from.
    """

    spec_json: str
    plan_json: str
    wall_seconds_before: float


class Recorder:
    """The actor that owns the ledger while a study runs. It needs no torch."""

    def __init__(self, output_directory: str, study: str, trials_file: str) -> None:
        """Open the ledger.

        Args:
            output_directory: Where it lies.
            study: The study's name.
            trials_file: Spec and launch plan as JSON, by trial id.
        """
        self._ledger = Ledger(Path(output_directory))
        self._study = study
        self._trials: dict[str, tuple[str, str]] = json.loads(Path(trials_file).read_text(encoding="utf-8"))

    def still_open(self, trial_ids: Sequence[str]) -> list[str]:
        """Return those of the trials that have not ended for good: a slot that was lost had perhaps finished some."""
        entries = self._ledger.entries(trial_ids)
        ended = {key for key, entry in entries.items() if entry.is_final}
        return [trial_id for trial_id in trial_ids if trial_id not in ended]

    def begin(self, trial_id: str) -> tuple[Assignment, bytes | None]:
        """Record a trial as running, and return it with the checkpoint it goes on from, or what its soup is made of."""
        point = self._ledger.begin(trial_id, self._study)
        spec_json, plan_json = self._trials[trial_id]
        assignment = Assignment(spec_json, plan_json, point.wall_seconds if point else 0.0)
        soup = TrialSpec.model_validate_json(spec_json).soup
        if soup is not None:
            return assignment, ingredients(self._ledger, soup)
        return assignment, point.checkpoint if point else None

    def record_epochs(self, records: Sequence[tuple[str, EpochRecord, float]], checkpoints: Checkpoints) -> None:
        """Record epochs of different trials with their checkpoints.

        Args:
            records: The trial's id, what the epoch measured, and what the trial has cost up to here, in seconds.
            checkpoints: What they resume from.
        """
        for trial_id, record, wall_seconds in records:
            checkpoint = checkpoints[trial_id] if isinstance(checkpoints, dict) else checkpoints
            self._ledger.record_epoch(trial_id, record, checkpoint, wall_seconds)

    def record_result(self, result: TrialResult, weights: bytes | None, predictions: bytes | None) -> None:
        """Record a trial that ran to its end."""
        self._ledger.record_outcome(TrialOutcome(result, predictions, weights), self._study)

    def record_failure(self, trial_id: str, status: TrialStatus, reason: str) -> None:
        """Record a trial that did not, with the epochs it got through."""
        record_failure(self._ledger, self._study, self._trials[trial_id][0], status, reason)


def record_failure(ledger: Ledger, study: str, spec_json: str, status: TrialStatus, reason: str | None) -> None:
    """Record a trial without an outcome of its own: its status, the reason and the epochs it got through."""
    spec = TrialSpec.model_validate_json(spec_json)
    result = TrialResult(
        trial_id=spec.trial_id,
        condition_id=spec.condition_id,
        spec=spec.model_dump(mode="json"),
        status=status,
        reason=reason,
        epochs=ledger.epochs(spec.trial_id),
    )
    ledger.record_outcome(TrialOutcome(result), study)


def start_recorder(
    output_directory: Path, study: str, trials: dict[str, tuple[str, str]], node_id: str, folder: Path
) -> Any:
    """Start the recorder on the driver's own node, where the output directory is.

    Args:
        output_directory: Where the ledger lies.
        study: The study's name.
        trials: Spec and launch plan as JSON, by trial id.
        node_id: The driver's node.
        folder: A temporary one there.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    strategy = NodeAffinitySchedulingStrategy(node_id, soft=False)
    actor = ray.remote(Recorder).options(num_cpus=0, max_restarts=3, max_task_retries=3, scheduling_strategy=strategy)
    # By way of a file: arguments of many trials lie in the object store, where a restarted recorder may not find them.
    file = folder / f"trials-{uuid.uuid4().hex}.json"
    file.write_text(json.dumps(trials), encoding="utf-8")
    return actor.remote(str(output_directory.resolve()), study, str(file))
