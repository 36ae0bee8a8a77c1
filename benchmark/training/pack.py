"""Trials that train in one pass over the frozen backbone: a pack. One trial alone is a pack of one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as distributed
from torch import Tensor, nn

from benchmark.errors import TrialError
from benchmark.launch_plan import LaunchPlan
from benchmark.spec import TrialSpec
from benchmark.training.engine import TrainingEngine, named_moments, restore_moments
from benchmark.training.estimate import saved_bytes
from benchmark.training.footprint import NUM_ADAM_MOMENTS
from benchmark.training.loop import Learner, TrainedEpoch, train_epoch
from benchmark.training.model import Depth
from benchmark.training.open_trial import OpenTrial
from benchmark.training.packed_model import PackedClassifier, runs_apart, share_frozen
from benchmark.training.pretrained import autocast_dtype_of
from benchmark.training.replay import ReplayedClassifier, replayed_where_it_pays

CPU_PACK_BYTES = 4 * 2**30
"""What a pack on a CPU may take, unless the plan says otherwise."""
GPU_PACK_SHARE = 0.7
"""Share of a GPU's memory that a pack may take, unless the plan says otherwise."""


class Pack:
    """Open trials and the engine that trains them side by side.

    A trial that leaves takes nothing from the others: the engine is made anew for those that stay, with their moments.
    """

    def __init__(self, members: Sequence[OpenTrial], plan: LaunchPlan) -> None:
        """Take up trials as `opened` returns them."""
        for member in members:
            member.pack_size = len(members)
        self._plan = plan
        self._members: list[OpenTrial] = []
        self._engine: TrainingEngine | None = None
        self._model: nn.Module | None = None
        self._moments = {member.spec.trial_id: member.state.moments for member in members}

    def train_epoch(self, members: Sequence[OpenTrial]) -> list[TrainedEpoch]:
        """Train the next epoch of these members, and return what each one's measured."""
        engine = self._engine_for(members)
        learners = [Learner(m.spec, m.train, m.masks, m.state.num_finished_epochs + 1) for m in members]
        return train_epoch(engine, learners, self._plan, members[0].rank)

    def moments(self, member: OpenTrial) -> dict[str, Tensor]:
        """Return the optimiser's moments of one member, by name; empty before its first step."""
        if self._engine is None or member not in self._members:
            return self._moments[member.spec.trial_id]
        return named_moments(self._engine.optimizer, member.trainable)

    def close(self) -> None:
        """Free the engine."""
        if self._engine is not None:
            self._engine.close()
        if isinstance(self._model, ReplayedClassifier):
            self._model.forget()
        self._engine, self._model, self._members = None, None, []

    def _engine_for(self, members: Sequence[OpenTrial]) -> TrainingEngine:
        if self._engine is None or list(members) != self._members:
            self._moments |= {member.spec.trial_id: self.moments(member) for member in members}
            self.close()
            packed = PackedClassifier([member.model for member in members])
            can_replay = all(member.packs for member in members)
            self._model = replayed_where_it_pays(packed, self._plan) if can_replay else packed
            groups = [member.parameter_group for member in members]
            self._engine = TrainingEngine(self._model, groups, members[0].spec.training.precision, self._plan)
            self._members = list(members)
            for member in members:
                restore_moments(self._engine.optimizer, member.trainable, self._moments[member.spec.trial_id])
        return self._engine


def opened(
    specs: Sequence[TrialSpec], plan: LaunchPlan, checkpoints: Sequence[bytes | None]
) -> Iterator[list[OpenTrial]]:
    """Open trials, as many at once as fit into the memory that a pack may take; one always does.

    All that are yielded at once use the first one's frozen weights.

    Args:
        specs: What to train.
        plan: How.
        checkpoints: What each goes on from, or none.

    Raises:
        TrialError: The frozen weights of two of them differ.
    """
    if len(specs) == 1:
        yield [OpenTrial(specs[0], plan, checkpoints[0])]
        return
    budget = _pack_bytes(plan)
    members: list[OpenTrial] = []
    needs: list[_Need] = []
    for spec, checkpoint in zip(specs, checkpoints, strict=True):
        member = OpenTrial(spec, plan, checkpoint)
        need = _need_of(member, plan)
        if members and _taken_bytes([*needs, need]) > budget:
            yield members
            members, needs = [], []
        if members:
            _share_frozen(members[0], member)
        members.append(member)
        needs.append(need)
    yield members


@dataclass(frozen=True)
class _Need:
    """What a member adds to a pack.

    Attributes:
        activation_bytes: Saved for the backward pass of its micro-batch.
        is_apart: Whether they go before the next member's are made.
        trained_bytes: Its weights, gradients and moments.
    """

    activation_bytes: int
    is_apart: bool
    trained_bytes: int


def _taken_bytes(needs: Sequence[_Need]) -> int:
    together = sum(need.activation_bytes for need in needs if not need.is_apart)
    apart = max((need.activation_bytes for need in needs if need.is_apart), default=0)
    return together + apart + sum(need.trained_bytes for need in needs)


def _share_frozen(first: OpenTrial, other: OpenTrial) -> None:
    if first.frozen_sha256_before != other.frozen_sha256_before:
        raise TrialError("trials of one pack have different frozen weights")
    share_frozen(first.model, other.model)


def _need_of(member: OpenTrial, plan: LaunchPlan) -> _Need:
    size = member.spec.backbone.image_size_pixels
    pixels = torch.zeros(1, 3, size, size, device=plan.device)
    labels = torch.zeros(1, dtype=torch.int64, device=plan.device)
    dtype = autocast_dtype_of(member.spec.training.precision)
    with torch.autocast(plan.device, dtype, enabled=dtype is not None):
        activations = saved_bytes(member.model, pixels, labels) * plan.micro_batch_images
        num_values = member.model.prefix(pixels, Depth(0)).numel() * plan.micro_batch_images
    trained = sum(parameter.nbytes for parameter in member.trainable.values())
    return _Need(activations, runs_apart(num_values, plan.device), (2 + NUM_ADAM_MOMENTS) * trained)


def _pack_bytes(plan: LaunchPlan) -> int:
    """Return what a pack may take; the same on every rank, since all must divide the trials alike."""
    if plan.pack_bytes is not None:
        return plan.pack_bytes
    if plan.device == "cpu":
        return CPU_PACK_BYTES
    total = torch.tensor([int(GPU_PACK_SHARE * torch.cuda.get_device_properties(0).total_memory)], device=plan.device)
    if plan.num_workers > 1:
        distributed.all_reduce(total, op=distributed.ReduceOp.MIN)
    return int(total.item())
