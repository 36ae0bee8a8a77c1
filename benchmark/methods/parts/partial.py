"""A linear map of which some outputs train (APLA, arXiv 2503.11335)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from benchmark.methods.parts.linears import replace_at
from benchmark.streams import generator

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from timm.models.vision_transformer import VisionTransformer


class PartialLinear(nn.Module):
    """A frozen linear map with trained copies of some outputs' weights and biases in their place."""

    outputs: Tensor

    def __init__(self, base: nn.Linear, outputs: Int[Tensor, " trained"]) -> None:
        """Copy these outputs; the map itself stays as it is."""
        super().__init__()
        self.base = base
        self.register_buffer("outputs", outputs)
        self.weight = nn.Parameter(base.weight.detach()[outputs].clone())
        self.bias = nn.Parameter(base.bias.detach()[outputs].clone())

    def forward(self, x: Float[Tensor, "batch tokens in"]) -> Float[Tensor, "batch tokens out"]:
        """Return the map's output, the trained outputs in their place."""
        return nn.functional.linear(x, *self._whole())

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """Return the map with the trained outputs written into it."""
        weight, bias = self._whole()
        self.base.weight.copy_(weight)
        self.base.bias.copy_(bias)
        return self.base

    def _whole(self) -> tuple[Tensor, Tensor]:
        weight = self.base.weight.index_copy(0, self.outputs, self.weight)
        return weight, self.base.bias.index_copy(0, self.outputs, self.bias)


def put_partial_projections(backbone: VisionTransformer, num_outputs: int, seed: int) -> None:
    """Make a random set of outputs of every attention's projection trainable, each block's from its own stream."""
    for number, block in enumerate(backbone.blocks):

        def partial(base: nn.Linear, stream: str = f"apla/block{number}") -> PartialLinear:
            chosen = torch.randperm(base.out_features, generator=generator(seed, stream))[:num_outputs]
            return PartialLinear(base, chosen.sort().values)

        replace_at(block, "attn.proj", partial)
