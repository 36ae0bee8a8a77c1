"""Floating-point operations of a model, counted while it runs, by torch's own formulas; a multiply-add is two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmark.methods.contract import find_method
from benchmark.spec import TrialSpec
from benchmark.training.model import AdaptedClassifier

_aten = torch.ops.aten
_FORMULAS = {
    # Torch 2.11 counts its attention kernels on GPUs alone.
    _aten._scaled_dot_product_flash_attention_for_cpu: flop_registry[_aten._scaled_dot_product_flash_attention],
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: flop_registry[
        _aten._scaled_dot_product_flash_attention_backward
    ],
    **flop_registry,
}


class OperationCounter(TorchDispatchMode):
    """Counts what runs while it is entered, backward passes included.

    `torch.utils.flop_counter.FlopCounterMode` has the same formulas, but it also follows every module by hooks, which
    takes several times as long and fails at a view of a parameter.

    Attributes:
        flops: Counted so far.
    """

    def __init__(self) -> None:
        """Start at zero."""
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and add its count where there is a formula."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        formula = _FORMULAS.get(func._overloadpacket)
        if formula is not None:
            self.flops += int(formula(*args, **kwargs, out_val=out))
        return out


@dataclass(frozen=True)
class ImageFlops:
    """Operations of one image.

    Attributes:
        forward: Of the forward pass.
        training: Of the forward and backward pass; of the forward pass where the head is fitted in closed form.
    """

    forward: int
    training: int


_COUNTED: dict[str, ImageFlops] = {}


def flops_per_image(model: AdaptedClassifier, spec: TrialSpec) -> ImageFlops:
    """Return the operations of one image, counted once a process for all seeds of a condition.

    The backward pass stops at the first trained tensor, so frozen blocks before it have none. No gradient stays behind.
    """
    if spec.condition_id not in _COUNTED:
        device, size = model.head.weight.device, spec.backbone.image_size_pixels
        pixels, label = torch.zeros(1, 3, size, size, device=device), torch.zeros(1, dtype=torch.int64, device=device)
        fits_head = find_method(spec.method.name).fits_head
        with OperationCounter() as counter:
            logits = model(pixels)
            forward = counter.flops
            if not fits_head:
                functional.cross_entropy(logits, label).backward()
        model.zero_grad(set_to_none=True)
        _COUNTED[spec.condition_id] = ImageFlops(forward, counter.flops)
    return _COUNTED[spec.condition_id]
