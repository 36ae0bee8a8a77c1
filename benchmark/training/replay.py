"""A pack's forward and backward pass as CUDA graphs: launched once, where a step of small batches is all launches."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from benchmark.launch_plan import LaunchPlan
from benchmark.methods.parts.masks import RandomMask
from benchmark.training.packed_model import Criterion, PackedClassifier

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

MOST_REPLAYED_VALUES = 32 * 2**20
"""Of tokens times width that all members push through a block. With more, a GPU computes for longer than its processor
takes to launch, and the graphs' own memory, which evaluation cannot use, buys nothing."""


class ReplayedClassifier(nn.Module):
    """A pack whose passes are recorded at the first step and replayed at the others.

    What was recorded does not change: nothing in it may depend on the step but the inputs and the parameters' values.
    """

    def __init__(self, packed: PackedClassifier) -> None:
        """Record nothing yet."""
        super().__init__()
        self.packed = packed
        self._trained = {name: parameter for name, parameter in packed.named_parameters() if parameter.requires_grad}
        self._recorded: dict[object, Callable[..., tuple[Tensor, ...]]] = {}

    def forward(self, inputs: Sequence[Tensor], criteria: Sequence[Criterion] | None = None) -> list[Tensor]:
        """Return each member's loss or logits, as `PackedClassifier.forward` does, valid until the next call.

        The losses are launched: what they follow from, labels, changes with the step.
        """
        distinct, owners = _distinct(inputs)
        key = (owners, tuple((tensor.shape, tensor.dtype) for tensor in distinct))
        if key not in self._recorded:
            self._recorded[key] = self._record(distinct, owners)
        logits = list(self._recorded[key](*distinct, *self._trained.values()))
        return logits if criteria is None else [criterion(own) for criterion, own in zip(criteria, logits, strict=True)]

    def forget(self) -> None:
        """Free the graphs and their memory now: what replays them refers to itself."""
        if self._recorded:
            self._recorded.clear()
            gc.collect()

    def _record(self, distinct: Sequence[Tensor], owners: tuple[int, ...]) -> Callable[..., tuple[Tensor, ...]]:
        def on_distinct(*tensors: Tensor) -> tuple[Tensor, ...]:
            trained = dict(zip(self._trained, tensors[len(distinct) :], strict=True))
            inputs = [tensors[index] for index in owners]
            return tuple(torch.func.functional_call(self.packed, trained, (inputs,)))

        gc.collect()  # a graph that the collector freed while another is recorded would spoil that one
        # Leaves of their own over the parameters' memory: autograd hands a leaf's gradient to the stream on which it
        # was first used, and for the parameters themselves that may be one that cannot be recorded.
        leaves = [nn.Parameter(parameter.detach()) for parameter in self._trained.values()]
        samples = (*(tensor.clone() for tensor in distinct), *leaves)
        dtype = torch.get_autocast_dtype("cuda")
        # A cast that autocast kept from one recorded pass to the next would read weights of an earlier step.
        with torch.autocast("cuda", dtype, enabled=torch.is_autocast_enabled("cuda"), cache_enabled=False):
            try:
                replayed = torch.cuda.make_graphed_callables(on_distinct, samples, allow_unused_input=True)
            except RuntimeError as error:
                lack = _out_of_memory_in(error)
                if lack is None or lack is error:
                    raise
                raise lack from error
        return cast("Callable[..., tuple[Tensor, ...]]", replayed)


def replayed_where_it_pays(packed: PackedClassifier, plan: LaunchPlan) -> nn.Module:
    """Return a pack that replays its passes where that is possible and pays, or the pack as it is.

    Args:
        packed: Members of methods that pack: their passes are the same operations at every step.
        plan: On which device, whether it is wanted, and how many images a member pushes through at once.
    """
    draws_masks = any(isinstance(module, RandomMask) and module.probability > 0 for module in packed.modules())
    # Replayed gradients lie in the graph's memory, where the next micro-batch's would overwrite them.
    is_possible = plan.device == "cuda" and plan.cuda_graphs and plan.accumulation_steps == 1 and not draws_masks
    return ReplayedClassifier(packed) if is_possible and _pays(packed, plan) else packed


def _pays(packed: PackedClassifier, plan: LaunchPlan) -> bool:
    backbone = cast("VisionTransformer", packed.members[0].backbone)
    num_tokens = backbone.patch_embed.num_patches
    values = len(packed.members) * plan.micro_batch_images * num_tokens * int(backbone.num_features)
    return values <= MOST_REPLAYED_VALUES


def _out_of_memory_in(error: BaseException | None) -> torch.OutOfMemoryError | None:
    """Return the lack of memory that came first: ending a recording that failed raises another error over it."""
    while error is not None and not isinstance(error, torch.OutOfMemoryError):
        error = error.__context__
    return error


def _distinct(inputs: Sequence[Tensor]) -> tuple[list[Tensor], tuple[int, ...]]:
    """Return the inputs without repetition, and which of these each member has."""
    places: dict[int, int] = {}
    distinct: list[Tensor] = []
    for tensor in inputs:
        if id(tensor) not in places:
            places[id(tensor)] = len(distinct)
            distinct.append(tensor)
    return distinct, tuple(places[id(tensor)] for tensor in inputs)
