"""Frozen weights in the compute type: cast once, where autocast would cast them again at every step."""

from __future__ import annotations

import torch
from torch import nn

from benchmark.training.model import AdaptedClassifier

CAST_LAYERS = (nn.Linear, nn.Conv2d)
"""Layers whose operands autocast turns into the compute type, weights and biases alike."""


def cast_frozen_weights(model: AdaptedClassifier, dtype: torch.dtype) -> list[str]:
    """Hold the frozen layers that only autocast reads in its type. The results are the same to the bit.

    A layer is left as it is where it trains, or where a method may read its weights otherwise: it was put into a module
    of the method's, it has hooks, or the module around it has another `forward`.

    Args:
        model: With its method attached; changed in place.
        dtype: Of autocast.

    Returns:
        The names of the layers that were cast.
    """
    cast = []
    for parent_name, parent in model.backbone.named_modules():
        if id(parent) not in model.untouched or "forward" in vars(parent):
            continue
        for name, layer in parent.named_children():
            if _is_only_read_by_autocast(layer, model.untouched):
                for parameter in layer.parameters():
                    parameter.data = parameter.data.to(dtype)
                cast.append(f"{parent_name}.{name}".lstrip("."))
    return cast


def _is_only_read_by_autocast(layer: nn.Module, untouched: frozenset[int]) -> bool:
    if type(layer) not in CAST_LAYERS or id(layer) not in untouched or "forward" in vars(layer):
        return False
    if layer._forward_hooks or layer._forward_pre_hooks:
        return False
    return not any(parameter.requires_grad for parameter in layer.parameters())
