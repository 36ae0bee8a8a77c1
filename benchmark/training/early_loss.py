"""A loss whose gradients are computed at once, so that the activations it came from need not wait for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def early_loss(compute: Callable[[], Tensor], parameters: Sequence[nn.Parameter]) -> Tensor:
    """Return a loss [] whose graph holds nothing but its gradients, one as large as each parameter.

    Args:
        compute: Computes it; called once, here. What it uses besides the parameters gets no gradient.
        parameters: What the gradients are for.
    """
    loss: Tensor = _EarlyLoss.apply(compute, *parameters)
    return loss


class _EarlyLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, compute: Callable[[], Tensor], *parameters: Tensor) -> Tensor:
        with torch.enable_grad():
            loss = compute()
        with torch.autocast(loss.device.type, enabled=False):  # as where a backward pass is usually run
            ctx.gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        return loss.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        own, ctx.gradients = ctx.gradients, ()
        return None, *(None if one is None else gradients[0] * one for one in own)
