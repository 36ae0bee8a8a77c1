"""A frozen Vision Transformer with AdapterTune's adapters and a head, written as plainly as a script would.

It shares no code with the suite, so that the plain arms of the benchmark do not gain or lose with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

LEARNING_RATE, WEIGHT_DECAY, CLIP_NORM = 1e-3, 0.05, 1.0


class AdaptedBlock(nn.Module):
    """A frozen block with a bottleneck behind it that starts at zero."""

    def __init__(self, block: nn.Module, width: int, rank: int) -> None:
        super().__init__()
        self.block = block
        self.down, self.up = nn.Linear(width, rank), nn.Linear(rank, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = self.block(tokens)
        return tokens + self.up(nn.functional.gelu(self.down(tokens)))


def build(
    shape: dict[str, Any], weights: Path | None, num_classes: int, rank: int, adapted: Sequence[int]
) -> nn.Module:
    """Return the model with the weights loaded, frozen but for adapters and head.

    Args:
        shape: Arguments of timm's VisionTransformer.
        weights: A safetensors file with timm's names; none leaves them random.
        num_classes: Of the new head.
        rank: Of each adapter.
        adapted: Which blocks get one.
    """
    model = VisionTransformer(**shape, num_classes=num_classes)
    if weights is not None:
        state = {name: tensor for name, tensor in load_file(weights).items() if not name.startswith("head")}
        grid = [model.patch_embed.grid_size[0]] * 2
        state["pos_embed"] = resample_abs_pos_embed(state["pos_embed"], grid, num_prefix_tokens=1)
        model.load_state_dict(state, strict=False)
    model.requires_grad_(False)
    model.head.requires_grad_(True)
    for index in adapted:
        model.blocks[index] = AdaptedBlock(model.blocks[index], shape["embed_dim"], rank)
    return model


def optimizer_of(model: nn.Module) -> torch.optim.AdamW:
    """Return AdamW over what trains."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)


def step(model: nn.Module, optimizer: torch.optim.AdamW, pixels: Tensor, labels: Tensor, share: float) -> None:
    """Take one step, `share` of the way through a cosine."""
    for group in optimizer.param_groups:
        group["lr"] = LEARNING_RATE * 0.5 * (1.0 + math.cos(math.pi * share))
    loss = nn.functional.cross_entropy(model(pixels).float(), labels)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_([parameter for parameter in model.parameters() if parameter.requires_grad], CLIP_NORM)
    optimizer.step()
