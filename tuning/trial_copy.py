"""All that one ledger knows of a trial, to be taken up by another: how it ended, or where it goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from benchmark.result import EpochRecord, TrialOutcome, TrialResult
from tuning.ledger import Ledger

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""Files are named by it, so it must be nothing else."""


class CopyRecord(BaseModel):
    """What is known of a trial, with the hashes of its files."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    study: str = Field(description="the study it ran for")
    trial_id: str = Field(pattern=r"^[0-9a-f]{16}$")
    result: TrialResult | None = Field(default=None, description="how it ended; none while it is open")
    epochs: list[EpochRecord] = Field(default_factory=list, description="those behind the checkpoint, in order")
    wall_seconds: float = Field(default=0.0, description="what the trial had cost by then")
    checkpoint: Sha256 | None = Field(default=None, description="of the bytes to go on from")
    predictions: Sha256 | None = None
    adapter: Sha256 | None = None

    @property
    def is_final(self) -> bool:
        """Whether the trial never runs again."""
        return self.result is not None and self.result.status.is_final

    @property
    def last_epoch(self) -> int:
        """The epoch it goes on from; -1 where it begins anew."""
        return self.epochs[-1].epoch if self.checkpoint and self.epochs else -1

    @property
    def files(self) -> list[str]:
        """The hashes of its files."""
        return [sha256 for sha256 in (self.checkpoint, self.predictions, self.adapter) if sha256 is not None]


@dataclass(frozen=True)
class TrialCopy:
    """A record with its files, by their hashes."""

    record: CopyRecord
    files: dict[str, bytes]


def copy_of(ledger: Ledger, study: str, trial_id: str) -> TrialCopy:
    """Return all that a ledger knows of a trial.

    Args:
        ledger: Where it runs.
        study: The study's name.
        trial_id: Whose.
    """
    outcome = ledger.outcome(trial_id)
    point = None if outcome and outcome.result.status.is_final else ledger.resume_point(trial_id)
    last_epoch = point.epoch if point else -1
    contents = {
        "checkpoint": point.checkpoint if point else None,
        "predictions": outcome.predictions if outcome else None,
        "adapter": outcome.checkpoint if outcome else None,
    }
    files = {hashlib.sha256(content).hexdigest(): content for content in contents.values() if content is not None}
    record = CopyRecord(
        study=study,
        trial_id=trial_id,
        result=outcome.result if outcome else None,
        epochs=[record for record in ledger.epochs(trial_id) if record.epoch <= last_epoch],
        wall_seconds=point.wall_seconds if point else 0.0,
        **{name: hashlib.sha256(content).hexdigest() for name, content in contents.items() if content is not None},
    )
    return TrialCopy(record, files)


def take_up(ledger: Ledger, record: CopyRecord, read: Callable[[str], bytes]) -> None:
    """Write a copy into a ledger as if the trial had run there.

    Args:
        ledger: That knows less.
        record: What is known.
        read: Returns the file of a hash.
    """
    trial_id = record.trial_id
    content = {sha256: read(sha256) for sha256 in record.files}
    ledger.record_running(trial_id, record.study)
    epochs = record.result.epochs if record.is_final and record.result else record.epochs
    for epoch in epochs:
        is_last = epoch.epoch == record.last_epoch and record.checkpoint is not None
        checkpoint = content[record.checkpoint] if is_last and record.checkpoint else None
        ledger.record_epoch(trial_id, epoch, checkpoint, record.wall_seconds if is_last else 0.0)
    if record.result is not None:
        predictions, adapter = (content[one] if one else None for one in (record.predictions, record.adapter))
        ledger.record_outcome(TrialOutcome(record.result, predictions, adapter), record.study)
