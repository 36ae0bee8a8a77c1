"""Hydra's branches at a linear map: one parallel to it, one behind it (arXiv 2309.06922)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from benchmark.methods.parts.bottleneck import fill
from benchmark.methods.parts.linears import replace_at
from benchmark.methods.parts.masks import Dropout
from benchmark.streams import generator

if TYPE_CHECKING:
    from jaxtyping import Float
    from timm.models.vision_transformer import VisionTransformer


class LinearBottleneck(nn.Module):
    """`s (U (D x + b_D) + b_U)`, D Xavier-uniform and the rest zero."""

    def __init__(self, num_inputs: int, num_outputs: int, rank: int, scale: float, dropout: float, layer: str) -> None:
        """Make the branch; `layer` names the streams of its dropout and its seed's draws."""
        super().__init__()
        self.down = nn.Linear(num_inputs, rank)
        self.dropout = Dropout(dropout, f"{layer}/dropout") if dropout else nn.Identity()
        self.up = nn.Linear(rank, num_outputs)
        self.scale = scale

    @torch.no_grad()
    def initialise(self, draws: torch.Generator) -> None:
        """Draw D; zero the rest."""
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
        fill(self.down.weight, "xavier", draws)

    def forward(self, x: Float[Tensor, "batch tokens in"]) -> Float[Tensor, "batch tokens out"]:
        """Return the branch's addition."""
        addition: Tensor = self.up(self.dropout(self.down(x))) * self.scale
        return addition

    def as_affine(self) -> tuple[Tensor, Tensor]:
        """Return weight and bias of the same map in one step."""
        return self.scale * self.up.weight @ self.down.weight, self.scale * self.up(self.down.bias)


class BranchedLinear(nn.Module):
    """`y + P(x) + S(y)` with `y` the frozen map's output."""

    def __init__(self, base: nn.Linear, parallel: LinearBottleneck, sequential: LinearBottleneck) -> None:
        """Keep the map as it is."""
        super().__init__()
        self.base, self.parallel, self.sequential = base, parallel, sequential

    def forward(self, x: Float[Tensor, "batch tokens in"]) -> Float[Tensor, "batch tokens out"]:
        """Return the map's output with both additions."""
        y: Tensor = self.base(x)
        return y + self.parallel(x) + self.sequential(y)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """Return the map with both branches in it: `W + P + S W` and `b + p + S b + s`."""
        (parallel, parallel_bias), (sequential, sequential_bias) = (
            self.parallel.as_affine(),
            self.sequential.as_affine(),
        )
        self.base.weight.add_(parallel + sequential @ self.base.weight)
        self.base.bias.add_(parallel_bias + sequential @ self.base.bias + sequential_bias)
        return self.base


def put_branches(
    backbone: VisionTransformer, numbers: tuple[int, ...], rank: int, scale: float, dropout: float, seed: int
) -> None:
    """Put both branches at the output projection and fc2 of these blocks."""
    for number in numbers:
        for path in ("attn.proj", "mlp.fc2"):

            def branched(base: nn.Linear, layer: str = f"hydra/block{number}/{path}") -> BranchedLinear:
                branches = []
                for name, num_inputs in (("parallel", base.in_features), ("sequential", base.out_features)):
                    stream = f"{layer}/{name}"
                    branch = LinearBottleneck(num_inputs, base.out_features, rank, scale, dropout, stream)
                    branch.initialise(generator(seed, stream))
                    branches.append(branch)
                return BranchedLinear(base, *branches)

            replace_at(backbone.blocks[number], path, branched)
