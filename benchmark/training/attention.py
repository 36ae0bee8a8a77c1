"""Which way attention is computed: torch's fused kernel, or its three operations one by one where that is faster."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from benchmark.training.evaluation import Evaluator

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

MOST_EXPLICIT_TOKENS = 640
"""On CPUs with matrix units for bf16 the fused kernel, forward and backward, takes about 4.5 times as long as its
operations one by one at 37 tokens, 1.8 times at 197 and 577, and three quarters at 1025
(`python -m tests.performance.attention`)."""


def choose_attention(backbone: nn.Module, evaluator: Evaluator) -> int:
    """Let attention avoid the fused kernel where that is slower: in bf16 on a CPU, for images of few tokens.

    Args:
        backbone: A timm Vision Transformer, with or without a method attached; changed in place.
        evaluator: Where and in which type it will compute, and whether the choice is wanted.

    Returns:
        The number of attention layers that were changed.
    """
    embedding = cast("VisionTransformer", backbone).patch_embed
    is_slow = evaluator.device.type == "cpu" and evaluator.autocast_dtype is torch.bfloat16
    if not (evaluator.explicit_attention and is_slow and embedding.num_patches <= MOST_EXPLICIT_TOKENS):
        return 0
    # timm's attention layers, of every kind, read this attribute at each call.
    layers = [module for module in backbone.modules() if getattr(module, "fused_attn", False)]
    for layer in layers:
        layer.fused_attn = False  # type: ignore[assignment]
    return len(layers)
