"""One epoch of training steps, of one trial or of several in one pass. There is no other training loop."""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
import torch.distributed as distributed
import torch.nn.functional as functional
from torch import Tensor

from benchmark.errors import DivergedError, RequestError
from benchmark.launch_plan import LaunchPlan
from benchmark.methods.parts.masks import MaskSource
from benchmark.spec import TrialSpec
from benchmark.streams import generator
from benchmark.training.engine import TrainingEngine
from benchmark.training.schedule import learning_rate_at
from benchmark.training.transfer import to_device

if TYPE_CHECKING:
    from jaxtyping import Float, Int


class TrainingImages(Protocol):
    """Images from which training batches are made on demand: pixels, or what a frozen prefix made of them."""

    def __len__(self) -> int: ...

    @property
    def labels(self) -> Int[Tensor, " images"]:
        """Classes [N]."""
        ...

    @property
    def source(self) -> int:
        """A number that is equal where batches of the same rows, seed and epoch are equal."""
        ...

    def training_batch(
        self, rows: Int[Tensor, " batch"], augmentation: str, seed: int, epoch: int, device: torch.device | str
    ) -> Tensor:
        """Return the inputs of a training step, on the device."""
        ...


@dataclass(frozen=True)
class Learner:
    """A trial as the loop sees it.

    Attributes:
        spec: What it is.
        images: Its training images.
        masks: Its model's random masks.
        epoch: The one it trains now, 1-based.
    """

    spec: TrialSpec
    images: TrainingImages
    masks: MaskSource
    epoch: int

    def learning_rate_at(self, step: int, steps_per_epoch: int) -> float:
        """Return the learning rate of a step, 0-based from the trial's first."""
        training = self.spec.training
        num_warmup_steps = round(training.warmup_epochs * steps_per_epoch)
        return learning_rate_at(step, training.learning_rate, num_warmup_steps, training.epochs * steps_per_epoch)


@dataclass(frozen=True)
class TrainedEpoch:
    """What an epoch of training measured.

    Attributes:
        step_losses: Mean cross-entropy of each optimiser step's global batch, before its update.
        learning_rate: Of the last step.
        seconds: In training steps on this rank; of trials that trained in one pass, each one's share.
        divergence: Why the trial cannot go on; none where every loss is finite.
    """

    step_losses: list[float]
    learning_rate: float
    seconds: float
    divergence: DivergedError | None = None


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


def train_epoch(engine: TrainingEngine, learners: Sequence[Learner], plan: LaunchPlan, rank: int) -> list[TrainedEpoch]:
    """Train one epoch of each learner, side by side.

    Args:
        engine: With one parameter group a learner.
        learners: Of equally many steps an epoch.
        plan: Workers, micro-batch, accumulation, device.
        rank: This process's.
    """
    started = time.perf_counter()
    (steps_per_epoch,) = {count_steps_per_epoch(len(one.images), plan.global_batch_images) for one in learners}
    losses = torch.zeros(len(learners), steps_per_epoch, dtype=torch.float64, device=plan.device)
    rates: list[float] = []
    orders = [micro_batch_rows(one.spec.seed, one.epoch, len(one.images), plan, rank) for one in learners]
    for index, micro_batches in enumerate(zip(*orders, strict=True)):
        steps = [(one.epoch - 1) * steps_per_epoch + index for one in learners]
        rates = [one.learning_rate_at(step, steps_per_epoch) for one, step in zip(learners, steps, strict=True)]
        for rows in zip(*micro_batches, strict=True):
            losses[:, index] += _micro_step(engine, learners, steps, rows, plan, rates) / plan.accumulation_steps
    step_losses = _mean_over_ranks(losses, plan.num_workers)  # waits for the device, whose work belongs to the time
    seconds = (time.perf_counter() - started) / len(learners)
    return [
        TrainedEpoch(own, rate, seconds, _divergence(own, (one.epoch - 1) * steps_per_epoch))
        for one, own, rate in zip(learners, step_losses, rates, strict=True)
    ]


def _micro_step(
    engine: TrainingEngine,
    learners: Sequence[Learner],
    steps: Sequence[int],
    rows: Sequence[Int[Tensor, " batch"]],
    plan: LaunchPlan,
    rates: Sequence[float],
) -> Float[Tensor, " learners"]:
    """Run one micro-batch of each learner; their gradients meet nowhere, so the losses' sum gives each its own."""
    with contextlib.ExitStack() as masks:
        for one, step, own_rows in zip(learners, steps, rows, strict=True):
            if len(one.masks):
                masks.enter_context(one.masks.drawn(one.spec.seed, step, to_device(own_rows, plan.device)))
        criteria = [
            functools.partial(
                _loss,
                labels=to_device(one.images.labels[own_rows], plan.device),
                smoothing=one.spec.training.label_smoothing,
            )
            for one, own_rows in zip(learners, rows, strict=True)
        ]
        losses = torch.stack(engine(_inputs(learners, rows, plan.device), criteria))
        engine.accumulate(losses.sum())
        engine.step(rates)
    return losses.detach().double()


def _loss(logits: Float[Tensor, "batch classes"], labels: Int[Tensor, " batch"], smoothing: float) -> Tensor:
    return functional.cross_entropy(logits.float(), labels, label_smoothing=smoothing)


def _inputs(learners: Sequence[Learner], rows: Sequence[Int[Tensor, " batch"]], device: str) -> list[Tensor]:
    """Return each learner's inputs: one object for those that see the same images in the same way."""
    made: dict[tuple[int, str, int, int], Tensor] = {}
    inputs = []
    for one, own_rows in zip(learners, rows, strict=True):
        augmentation, seed = one.spec.protocol.augmentation, one.spec.seed
        key = (one.images.source, augmentation, seed, one.epoch)
        if key not in made:
            made[key] = one.images.training_batch(own_rows, augmentation, seed, one.epoch, device)
        inputs.append(made[key])
    return inputs


def _mean_over_ranks(losses: Float[Tensor, "learners steps"], num_workers: int) -> list[list[float]]:
    if num_workers > 1:
        distributed.all_reduce(losses)
        losses /= num_workers
    means: list[list[float]] = losses.tolist()
    return means


def _divergence(step_losses: Sequence[float], first_step: int) -> DivergedError | None:
    for index, loss in enumerate(step_losses):
        if not math.isfinite(loss):
            return DivergedError(f"the loss became {loss} at optimiser step {first_step + index + 1}")
    return None
