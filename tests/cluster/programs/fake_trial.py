"""A trial without training: what it does is named by `method.options`. Workers find it through PYTHONPATH."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.distributed

import benchmark
from benchmark.errors import DivergedError
from benchmark.launch_plan import LaunchPlan
from benchmark.result import Cost, EpochRecord, TrialOutcome, TrialResult, TrialStatus
from benchmark.spec import TrialSpec
from benchmark.training.trial import EpochReport, MemberReport


def trial_steps(
    spec: TrialSpec, plan: LaunchPlan, resume_from: bytes | None = None
) -> Iterator[EpochReport | TrialOutcome]:
    rank = torch.distributed.get_rank()
    started_epochs = json.loads(resume_from) if resume_from else []
    for epoch in range(len(started_epochs), spec.training.epochs + 1):
        _misbehave(spec, rank, epoch, plan)
        time.sleep(float(spec.method.options.get("seconds", 0)))
        total = torch.ones(1)
        torch.distributed.all_reduce(total)
        assert total.item() == plan.num_workers
        started_epochs.append(os.getpid() if rank == 0 else 0)
        yield EpochReport(_record(epoch), json.dumps(started_epochs).encode() if rank == 0 else None)
    yield TrialOutcome(_result(spec, started_epochs, plan), b"predictions", b"adapter")


def pack_steps(
    specs: Sequence[TrialSpec], plan: LaunchPlan, checkpoints: Sequence[bytes | None]
) -> Iterator[MemberReport]:
    """Advance all trials in turn, as one pass does; what a trial raises ends all, unless it diverges."""
    pairs = list(zip(specs, checkpoints, strict=True))
    running = {spec.trial_id: trial_steps(spec, plan, checkpoint) for spec, checkpoint in pairs}
    num_epochs = {spec.trial_id: spec.training.epochs + 1 for spec in specs}
    num_told = {spec.trial_id: len(json.loads(checkpoint or "[]")) for spec, checkpoint in pairs}
    while running:
        trial_ids = list(running)
        for trial_id, following in zip(trial_ids, [*trial_ids[1:], None], strict=True):
            steps = running[trial_id]
            try:
                report: EpochReport | TrialOutcome | DivergedError = next(steps)
            except DivergedError as error:
                report = error
            if not isinstance(report, EpochReport):
                del running[trial_id]
            num_told[trial_id] += 1
            is_followed = following is not None and num_told[following] < num_epochs[following]
            yield MemberReport(trial_id, report, is_followed and not isinstance(report, TrialOutcome))


def _misbehave(spec: TrialSpec, rank: int, epoch: int, plan: LaunchPlan) -> None:
    options = spec.method.options
    if epoch != 1 or rank != options.get("rank", 0):
        return
    kind = options.get("kind")
    if kind == "raise":
        raise ValueError("no such block")
    if kind == "diverge":
        raise DivergedError("the loss is nan")
    if kind == "memory" and plan.micro_batch_images > int(options.get("images", 0)):
        torch.empty(2**50)
    if kind == "freeze_once" and _is_first_time(spec):
        os.kill(os.getpid(), signal.SIGSTOP)
    if kind == "die" or (kind == "die_once" and _is_first_time(spec)):
        os.kill(os.getpid(), signal.SIGKILL)


def _is_first_time(spec: TrialSpec) -> bool:
    marker = Path(str(spec.method.options["marker"]))
    is_first = not marker.exists()
    marker.touch()
    return is_first


def _record(epoch: int) -> EpochRecord:
    return EpochRecord(
        epoch=epoch,
        train_loss=None,
        validation_loss=1.0,
        validation_top1=0.1 * epoch,
        feature_drift=0.0,
        learning_rate=0.1,
        train_seconds=0.0,
        evaluation_seconds=0.0,
    )


def _result(spec: TrialSpec, started_epochs: list[int], plan: LaunchPlan) -> TrialResult:
    batches = f"{plan.micro_batch_images}x{plan.accumulation_steps}"
    cost = Cost(
        num_trainable_parameters=1,
        num_adapter_parameters=1,
        num_total_parameters=1,
        train_seconds=0.0,
        evaluation_seconds=0.0,
        wall_seconds=0.0,
        train_images_per_second=None,
        peak_memory_bytes=None,
        checkpoint_bytes=7,
    )
    return TrialResult(
        trial_id=spec.trial_id,
        condition_id=spec.condition_id,
        spec=spec.model_dump(mode="json"),
        status=TrialStatus.COMPLETED,
        reason=f"{benchmark.__file__} {Path.cwd()} {started_epochs} {batches}",
        epochs=[_record(epoch) for epoch in range(len(started_epochs))],
        cost=cost,
    )
