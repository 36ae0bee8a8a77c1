"""What one training step takes at its peak, found by running the step and watching every tensor come and go.

On a model without values (`valueless.py`) nothing is computed and nothing is allocated: the sizes are those that the
real step would have. What no allocation of a tensor shows is not counted: the interpreter, libraries, the allocator's
own rounding, and images before they are a batch.
"""

from __future__ import annotations

import contextlib
import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmark.launch_plan import LaunchPlan
from benchmark.training.attention import choose_attention
from benchmark.training.blocks import checkpoint_blocks
from benchmark.training.evaluation import Evaluator
from benchmark.training.frozen_weights import cast_frozen_weights
from benchmark.training.model import AdaptedClassifier
from benchmark.training.pretrained import autocast_dtype_of

BYTES_PER_PARAMETER = 4
NUM_ADAM_MOMENTS = 2

LARGEST_BUCKET_ELEMENTS = 500_000_000
"""Gradients that DeepSpeed copies into one buffer to sum them over the ranks at stage 0
(`DeepSpeedEngine.buffered_allreduce_fallback`)."""

Part = Literal["weights", "activations", "gradients", "temporary"]


@dataclass(frozen=True)
class Footprint:
    """Bytes of one rank when a training step takes most, by what they are for.

    Attributes:
        weights: Frozen and trained, buffers included.
        activations: What the forward pass made and has not freed.
        gradients: Of trained parameters.
        optimiser: AdamW's two moments, after the first step.
        temporary: What the backward pass made for itself.
        communication: The buffer in which ranks sum their gradients.
        cache: Outputs of the frozen part that are kept from epoch to epoch.
    """

    weights: int
    activations: int
    gradients: int
    optimiser: int
    temporary: int
    communication: int = 0
    cache: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return sum(getattr(self, part.name) for part in fields(self))

    def with_cache(self, num_bytes: int) -> Footprint:
        """Return the same with so much kept of the frozen part's outputs."""
        return replace(self, cache=num_bytes)

    def sharded(self, zero_stage: int, num_workers: int) -> Footprint:
        """Return a rank's part under ZeRO: from stage 1 on the optimiser is divided, then gradients, then weights."""
        return replace(
            self,
            optimiser=self.optimiser // (num_workers if zero_stage >= 1 else 1),
            gradients=self.gradients // (num_workers if zero_stage >= 2 else 1),
            weights=self.weights // (num_workers if zero_stage >= 3 else 1),
        )


class PeakWatch(TorchDispatchMode):
    """Follows the storages of all tensors while it is entered, and keeps what they held at the highest moment.

    Attributes:
        at_peak: Bytes by part, at the peak.
    """

    def __init__(self, model: nn.Module) -> None:
        """Begin with a model's parameters, their gradients, and its buffers."""
        super().__init__()
        self._live: Counter[Part] = Counter()
        self._parts: dict[int, Part] = {}
        self._making: Part = "activations"
        self.at_peak: Counter[Part] = Counter()
        self._trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        for tensor in (*model.parameters(), *model.buffers()):
            self._take(tensor, "weights")
        self._take_gradients()

    @contextlib.contextmanager
    def backward(self) -> Iterator[None]:
        """Count what is made from here on as the backward pass's own, gradients apart."""
        hooks = [one.register_post_accumulate_grad_hook(self._take_gradient) for one in self._trained]
        self._making = "temporary"
        try:
            yield
        finally:
            self._making = "activations"
            for hook in hooks:
                hook.remove()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and take up what it made."""
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._take(leaf, self._making)
        if self._live.total() > self.at_peak.total():
            self.at_peak = self._live.copy()
        return out

    def _take_gradients(self) -> None:
        for parameter in self._trained:
            if parameter.grad is not None:
                self._take_gradient(parameter)

    def _take_gradient(self, parameter: Tensor) -> None:
        if parameter.grad is not None:
            self._take(parameter.grad, "gradients", again=True)

    def _take(self, tensor: Tensor, part: Part, again: bool = False) -> None:
        storage = tensor.untyped_storage()
        key, num_bytes = storage._cdata, storage.nbytes()
        if key in self._parts:
            if again and self._parts[key] != "weights":
                self._live[self._parts[key]] -= num_bytes
                self._live[part] += num_bytes
                self._parts[key] = part
            return
        self._parts[key] = part
        self._live[part] += num_bytes
        weakref.finalize(storage, self._drop, key, num_bytes)

    def _drop(self, key: int, num_bytes: int) -> None:
        self._live[self._parts.pop(key)] -= num_bytes


def step_footprint(model: AdaptedClassifier, precision: str, plan: LaunchPlan, image_size_pixels: int) -> Footprint:
    """Return what a training step of a trial takes at its peak.

    Args:
        model: Of fake tensors; what the plan changes of it is changed here.
        precision: `fp32` or `bf16`.
        plan: Micro-batch, accumulation, device, ranks.
        image_size_pixels: Side of the images.
    """
    dtype = autocast_dtype_of(precision)
    choose_attention(model.backbone, Evaluator(0, 1, 1, torch.device(plan.device), dtype, plan.explicit_attention))
    if dtype is not None and plan.cast_frozen_weights:
        cast_frozen_weights(model, dtype)
    if plan.checkpoint_activations:
        checkpoint_blocks(model)
    trained_bytes = sum(parameter.numel() * BYTES_PER_PARAMETER for parameter in model.trainable().values())
    if plan.accumulation_steps > 1:  # all micro-batches but the first find gradients that are there already
        for parameter in model.trainable().values():
            parameter.grad = torch.zeros_like(parameter)
    watch = PeakWatch(model)
    _run_step(model, watch, dtype, plan, image_size_pixels)
    gradients = sum(one.grad.nbytes for one in model.parameters() if one.grad is not None)
    model.zero_grad(set_to_none=True)
    optimiser = NUM_ADAM_MOMENTS * trained_bytes
    # DeepSpeed copies the gradients into a bucket to average them over ranks.
    bucket = min(trained_bytes, LARGEST_BUCKET_ELEMENTS * BYTES_PER_PARAMETER) if plan.num_workers > 1 else 0
    peak = watch.at_peak
    if peak["weights"] + gradients + bucket > peak.total():
        return Footprint(peak["weights"], 0, gradients, optimiser, 0, bucket)
    return Footprint(peak["weights"], peak["activations"], peak["gradients"], optimiser, peak["temporary"])


def _run_step(
    model: AdaptedClassifier, watch: PeakWatch, dtype: torch.dtype | None, plan: LaunchPlan, image_size_pixels: int
) -> None:
    with watch:
        pixels = torch.zeros(plan.micro_batch_images, 3, image_size_pixels, image_size_pixels)
        labels = torch.zeros(plan.micro_batch_images, dtype=torch.int64)
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            logits = model(pixels)
        loss = functional.cross_entropy(logits.float(), labels)
        with watch.backward():
            loss.backward()
