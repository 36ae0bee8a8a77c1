"""One trial without Ray: in this process, or in the ranks that `torchrun` or `deepspeed` started."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

from benchmark.errors import RequestError
from benchmark.folders import require_writable_folder
from benchmark.launch_plan import LaunchPlan
from benchmark.request import read_trial
from benchmark.result import EpochRecord, TrialOutcome
from benchmark.spec import TrialSpec

logger = logging.getLogger(__name__)


def run_trial_file(path: Path, output_directory: Path) -> TrialOutcome:
    """Train the trial of a YAML file; rank 0 writes `result.json`, `predictions.npz`, `checkpoint.safetensors`.

    Raises:
        RequestError: The file is wrong, the folder cannot be written, or the number of ranks is not its
            `launch.num_workers`.
    """
    spec, plan = read_trial(path)
    require_writable_folder(output_directory, "output folder")
    outcome = run_trial(spec, plan, _log_epoch)
    if _is_first_rank():
        write_outcome(outcome, output_directory)
        test = outcome.result.test
        logger.info("%s; written to %s", f"test top-1 {test.top1:.4f}" if test else "not tested", output_directory)
    return outcome


def run_trial(spec: TrialSpec, plan: LaunchPlan, on_epoch: Callable[[EpochRecord], None] | None = None) -> TrialOutcome:
    """Train one trial in this process group and return its outcome.

    Args:
        spec: What to train.
        plan: How; `num_workers` ranks must run this.
        on_epoch: Called after each epoch, on every rank.
    """
    from benchmark.training.process_group import join_from_environment, leave
    from benchmark.training.trial import EpochReport, trial_steps

    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size != plan.num_workers:
        raise RequestError(
            "launch.num_workers",
            plan.num_workers,
            f"{world_size} rank(s) were started",
            f"Start it with: torchrun --nproc-per-node {plan.num_workers} -m benchmark TRIAL.yaml",
        )
    join_from_environment(plan.device)
    try:
        for step in trial_steps(spec, plan):
            if not isinstance(step, EpochReport):
                return step
            if on_epoch is not None:
                on_epoch(step.record)
    finally:
        leave()
    raise AssertionError("a trial ends with its outcome")


def write_outcome(outcome: TrialOutcome, directory: Path) -> None:
    """Write a finished trial's record, per-image predictions and trained tensors."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "result.json").write_text(outcome.result.model_dump_json(indent=2) + "\n", encoding="utf-8")
    for name, content in (("predictions.npz", outcome.predictions), ("checkpoint.safetensors", outcome.checkpoint)):
        if content is not None:
            (directory / name).write_bytes(content)


def _log_epoch(record: EpochRecord) -> None:
    if _is_first_rank():
        logger.info(
            "epoch %d: train loss %s, validation top-1 %.4f",
            record.epoch,
            "-" if record.train_loss is None else f"{record.train_loss:.4f}",
            record.validation_top1,
        )


def _is_first_rank() -> bool:
    return int(os.environ.get("RANK", "0")) == 0
