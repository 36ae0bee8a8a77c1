"""Convpass's bypass: a bottleneck with a convolution over the grid of image tokens (arXiv 2207.07039)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from benchmark.methods.parts.blocks import AdaptedBranches
from benchmark.methods.parts.bottleneck import QuickGELU, fill
from benchmark.methods.parts.masks import Dropout
from benchmark.streams import generator

if TYPE_CHECKING:
    from jaxtyping import Float
    from timm.models.vision_transformer import VisionTransformer


class ConvolutionalBypass(nn.Module):
    """`s U(drop(act(conv(act(D x)))))`."""

    def __init__(
        self, backbone: VisionTransformer, rank: int, scale: float, dropout: float, seed: int, layer: str
    ) -> None:
        """Make and initialise the bypass; `layer` names its streams."""
        super().__init__()
        embedding: Any = backbone.patch_embed
        self.grid_size = tuple(embedding.grid_size)
        self.num_prefix_tokens = int(backbone.num_prefix_tokens)
        self.down = nn.Linear(backbone.embed_dim, rank)
        self.convolution = nn.Conv2d(rank, rank, 3, padding=1)
        self.activation = QuickGELU()
        self.dropout = Dropout(dropout, f"{layer}/dropout") if dropout else nn.Identity()
        self.up = nn.Linear(rank, backbone.embed_dim)
        self.scale = scale
        self._initialise(generator(seed, layer))

    @torch.no_grad()
    def _initialise(self, draws: torch.Generator) -> None:
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
        fill(self.down.weight, "xavier", draws)
        nn.init.eye_(self.convolution.weight[:, :, 1, 1])

    def forward(self, x: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens width"]:
        """Return the bypass's addition."""
        hidden = self.activation(self.down(x))
        prefix, image = hidden[:, : self.num_prefix_tokens], hidden[:, self.num_prefix_tokens :]
        hidden = torch.cat([self._convolved_alone(prefix), self._convolved(image)], dim=1)
        addition: Tensor = self.up(self.dropout(self.activation(hidden))) * self.scale
        return addition

    def _convolved(self, tokens: Float[Tensor, "batch patches rank"]) -> Float[Tensor, "batch patches rank"]:
        grid = tokens.unflatten(1, self.grid_size).permute(0, 3, 1, 2)
        return self.convolution(grid).flatten(2).transpose(1, 2)

    def _convolved_alone(self, tokens: Float[Tensor, "batch prefix rank"]) -> Float[Tensor, "batch prefix rank"]:
        """Convolve each token as a padded 1x1 image: only the kernel's centre meets it."""
        return nn.functional.linear(tokens, self.convolution.weight[:, :, 1, 1], self.convolution.bias)


def put_bypasses(
    backbone: VisionTransformer, numbers: tuple[int, ...], rank: int, scale: float, dropout: float, seed: int
) -> None:
    """Put a bypass beside both branches of these blocks."""
    for number in numbers:
        bypasses: dict[str, nn.Module] = {
            site: ConvolutionalBypass(backbone, rank, scale, dropout, seed, f"convpass/block{number}/{site}")
            for site in ("attention", "mlp")
        }
        backbone.blocks[number] = AdaptedBranches(backbone.blocks[number], bypasses, "parallel_normed")
