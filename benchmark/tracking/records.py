"""What the reports read from tracking: a study, the trials it asks for and those that have ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from benchmark.result import TrialResult


@dataclass(frozen=True)
class PlannedTrial:
    """A trial that a study asks for, whether or not it has run.

    Attributes:
        trial_id: The trial's identity.
        condition_id: The identity of its condition: the same spec under any seed.
        spec: The TrialSpec as JSON values.
    """

    trial_id: str
    condition_id: str
    spec: dict[str, Any]


@dataclass(frozen=True)
class StoredRun:
    """What the suite reads of a run in MLflow.

    Attributes:
        run_id: MLflow's id.
        status: MLflow's status.
        start_time_ms: Unix time in milliseconds.
        artifact_uri: Where its files lie.
        has_parameters: Whether the trial's parameters are stored.
        tags: The suite's own, by name.
    """

    run_id: str
    status: str
    start_time_ms: int
    artifact_uri: str
    has_parameters: bool
    tags: dict[str, str]


@dataclass(frozen=True)
class TrackedTrial:
    """A trial as tracking knows it: the run's id and the result without its curves and confusion matrix."""

    run_id: str
    result: TrialResult


@dataclass(frozen=True)
class StudyRecord:
    """All that a report is made from.

    Attributes:
        name: The study's name.
        spec: The StudySpec as JSON values (`name`, `question`, `claims`, ...).
        planned: Every trial the study asks for.
        trials: One entry a trial that has ended, whatever its status.
        run_id: The parent run's id.
        experiment_id: The MLflow experiment's id.
        tracking_uri: Where it was read from.
        wall_seconds: Time of the study's `run` commands so far, added up; none before the first has ended.
        test_reads: The ledger of test reads: `trial_id`, `seed`, `read_at` (ISO 8601), `selected_epoch`, `run_id`.
    """

    name: str
    spec: dict[str, Any]
    planned: list[PlannedTrial]
    trials: list[TrackedTrial]
    run_id: str
    experiment_id: str
    tracking_uri: str
    wall_seconds: float | None
    test_reads: list[dict[str, Any]] = field(default_factory=list)
