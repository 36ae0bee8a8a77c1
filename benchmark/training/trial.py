"""The story of one trial."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmark.launch_plan import LaunchPlan
from benchmark.result import EpochRecord, TrialOutcome
from benchmark.spec import TrialSpec


@dataclass(frozen=True)
class EpochReport:
    """What a rank hands over after an epoch.

    Attributes:
        record: The epoch's measurements, the same on every rank.
        checkpoint: Bytes to resume from after this epoch; rank 0 only, none on the others.
    """

    record: EpochRecord
    checkpoint: bytes | None


def trial_steps(
    spec: TrialSpec, plan: LaunchPlan, resume_from: bytes | None = None
) -> Iterator[EpochReport | TrialOutcome]:
    """Run one trial on this rank: yield after every epoch, and last the outcome (rank 0's is the complete one).

    The process group must stand (`benchmark.training.process_group.join`). Every rank of the trial advances in step.

    Raises:
        DivergedError: The loss is not finite.
        MissingError: Weights or data are not here.
    """
    raise NotImplementedError
