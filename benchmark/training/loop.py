"""One epoch of training steps."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
import torch.distributed as distributed
import torch.nn.functional as functional
from torch import Tensor

from benchmark.errors import DivergedError, RequestError
from benchmark.launch_plan import LaunchPlan
from benchmark.spec import TrialSpec
from benchmark.streams import generator
from benchmark.training.engine import TrainingEngine
from benchmark.training.schedule import learning_rate_at

if TYPE_CHECKING:
    from jaxtyping import Int


class TrainingImages(Protocol):
    """Images from which training batches are made on demand: pixels, or what a frozen prefix made of them."""

    def __len__(self) -> int: ...

    @property
    def labels(self) -> Int[Tensor, " images"]:
        """Classes [N]."""
        ...

    def training_batch(
        self, rows: Int[Tensor, " batch"], augmentation: str, seed: int, epoch: int, device: torch.device | str
    ) -> Tensor:
        """Return the inputs of a training step, on the device."""
        ...


@dataclass(frozen=True)
class TrainedEpoch:
    """What an epoch of training measured.

    Attributes:
        step_losses: Mean cross-entropy of each optimiser step's global batch, before its update.
        learning_rate: Of the last step.
        seconds: In training steps on this rank.
    """

    step_losses: list[float]
    learning_rate: float
    seconds: float


def count_steps_per_epoch(num_images: int, global_batch_images: int) -> int:
    """Return the optimiser steps of an epoch; what is left of the shuffled images waits for the next epoch.

    Raises:
        RequestError: There are fewer images than one global batch.
    """
    if num_images < global_batch_images:
        rule = f"the global batch must not exceed the {num_images} training images"
        raise RequestError("training.global_batch_images", global_batch_images, rule)
    return num_images // global_batch_images


def micro_batch_rows(
    seed: int, epoch: int, num_images: int, plan: LaunchPlan, rank: int
) -> Iterator[list[Int[Tensor, " batch"]]]:
    """Yield, for each optimiser step, the rows of this rank's micro-batches.

    The order depends on (seed, epoch) alone, and the ranks' micro-batches together are the global batch, so the
    gradient is the same for every split of it into workers and accumulation steps.
    """
    order = torch.randperm(num_images, generator=generator(seed, f"order/epoch{epoch}"))
    num_steps = count_steps_per_epoch(num_images, plan.global_batch_images)
    for batch in order[: num_steps * plan.global_batch_images].view(num_steps, plan.num_workers, -1):
        yield list(batch[rank].split(plan.micro_batch_images))


def train_epoch(
    engine: TrainingEngine, images: TrainingImages, spec: TrialSpec, plan: LaunchPlan, epoch: int, rank: int
) -> TrainedEpoch:
    """Train one epoch.

    Raises:
        DivergedError: A step's loss is not finite.
    """
    started = time.perf_counter()
    steps_per_epoch = count_steps_per_epoch(len(images), plan.global_batch_images)
    num_warmup_steps = round(spec.training.warmup_epochs * steps_per_epoch)
    losses = torch.zeros(steps_per_epoch, dtype=torch.float64, device=plan.device)
    learning_rate = 0.0
    for index, micro_batches in enumerate(micro_batch_rows(spec.seed, epoch, len(images), plan, rank)):
        step = (epoch - 1) * steps_per_epoch + index
        learning_rate = learning_rate_at(
            step, spec.training.learning_rate, num_warmup_steps, spec.training.epochs * steps_per_epoch
        )
        for rows in micro_batches:
            with engine.masks.drawn(spec.seed, step, rows.to(plan.device)):
                loss = _micro_step(engine, images, rows, spec, plan, epoch, learning_rate)
            losses[index] += loss.double() / plan.accumulation_steps
    step_losses = _mean_over_ranks(losses, plan.num_workers)
    _refuse_divergence(step_losses, (epoch - 1) * steps_per_epoch)
    return TrainedEpoch(step_losses, learning_rate, time.perf_counter() - started)


def _micro_step(
    engine: TrainingEngine,
    images: TrainingImages,
    rows: Int[Tensor, " batch"],
    spec: TrialSpec,
    plan: LaunchPlan,
    epoch: int,
    learning_rate: float,
) -> Tensor:
    inputs = images.training_batch(rows, spec.protocol.augmentation, spec.seed, epoch, plan.device)
    loss = functional.cross_entropy(
        engine(inputs).float(), images.labels[rows].to(plan.device), label_smoothing=spec.training.label_smoothing
    )
    engine.accumulate(loss)
    engine.step(learning_rate)
    return loss.detach()


def _mean_over_ranks(losses: Tensor, num_workers: int) -> list[float]:
    if num_workers > 1:
        distributed.all_reduce(losses)
        losses /= num_workers
    return [float(loss) for loss in losses]


def _refuse_divergence(step_losses: list[float], first_step: int) -> None:
    for index, loss in enumerate(step_losses):
        if not math.isfinite(loss):
            raise DivergedError(f"the loss became {loss} at optimiser step {first_step + index + 1}")
