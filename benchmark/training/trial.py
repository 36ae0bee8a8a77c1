"""The story of one trial."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

from benchmark.datasets.reading.seal import sealed_tests
from benchmark.launch_plan import LaunchPlan
from benchmark.provenance import utc_now
from benchmark.result import EpochRecord, TrialOutcome
from benchmark.spec import TrialSpec
from benchmark.training.loop import TrainedEpoch, train_epoch
from benchmark.training.open_trial import OpenTrial


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

    Args:
        spec: What to train.
        plan: How this trial is spread over ranks.
        resume_from: A checkpoint that an earlier run of the same trial yielded.

    Raises:
        DivergedError: The loss is not finite.
        MissingError: Weights or data are not here.
    """
    started_at, started = utc_now(), time.perf_counter()
    with contextlib.nullcontext() if spec.reads_test else sealed_tests():
        trial = OpenTrial(spec, plan, resume_from)
        try:
            if not trial.state.records:
                yield EpochReport(trial.measure_start(), trial.checkpoint())
            for epoch in range(trial.state.num_finished_epochs + 1, trial.num_epochs + 1):
                trained = trial.fit_head() if trial.fits_head else _train(trial, spec, plan, epoch)
                yield EpochReport(trial.close_epoch(epoch, trained), trial.checkpoint())
            trial.restore_selected()
            yield trial.finish(started_at, started)
        finally:
            trial.close()


def _train(trial: OpenTrial, spec: TrialSpec, plan: LaunchPlan, epoch: int) -> TrainedEpoch:
    return train_epoch(trial.engine, trial.train, spec, plan, epoch, trial.rank)
