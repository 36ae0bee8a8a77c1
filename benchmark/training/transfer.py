"""How tensors get from the processor's memory to a GPU without waiting for what it computes."""

from __future__ import annotations

import torch
from torch import Tensor

MOST_PINNED_BYTES = 32 * 2**20
"""Of one tensor: 200 images of 224 pixels as bytes, or a batch of 50 as floating-point numbers."""


def to_device(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Return a tensor on a device. To a GPU the copy goes through pinned memory, in the order of its stream.

    A copy from pageable memory ends only when everything queued before it has run, so the processor could not prepare
    the next batch meanwhile. Pinned memory is kept for later copies, so large tensors do without.
    """
    if tensor.device.type != "cpu" or torch.device(device).type != "cuda" or tensor.nbytes > MOST_PINNED_BYTES:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
