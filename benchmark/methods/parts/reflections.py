"""The trained modules of ETHER and ETHER+: block-diagonal reflections of frozen weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from benchmark.methods.parts.changes import Change, Site

if TYPE_CHECKING:
    from jaxtyping import Float


def draw_normals(num_blocks: int, length: int, draws: torch.Generator) -> nn.Parameter:
    """Return random unit vectors, one for each diagonal block, [blocks, length / blocks]."""
    return nn.Parameter(functional.normalize(torch.randn(num_blocks, length // num_blocks, generator=draws), dim=-1))


def project(x: Float[Tensor, "*batch length"], normals: Float[Tensor, "blocks part"]) -> Float[Tensor, "*batch length"]:
    """Return `u u^T x` in every diagonal block, with `u` the block's normal scaled to length 1."""
    units = functional.normalize(normals, dim=-1)
    parts = x.unflatten(-1, (normals.shape[0], -1))
    return ((parts * units).sum(dim=-1, keepdim=True) * units).flatten(-2)


class EtherChange(Change):
    """`W H x - W x` with `H = I - 2 u u^T` in every diagonal block."""

    def __init__(self, site: Site, num_blocks: int, seed: int) -> None:
        """Draw the normals."""
        super().__init__()
        self.normals = draw_normals(num_blocks, site.num_inputs, site.draws(seed, "ether"))

    def forward(self, x: Tensor, y: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return what is added to the map's output."""
        return functional.linear(project(x, self.normals), weight) * -2.0

    def merged(self, weight: Tensor) -> Tensor:
        """Return the reflected weight `W H`."""
        return weight - 2.0 * project(weight, self.normals)


class EtherPlusChange(Change):
    """`H' W H x - W x` with `H = I + v v^T - u u^T` in every diagonal block, on both sides of the weight."""

    def __init__(self, site: Site, num_blocks: int, seed: int) -> None:
        """Draw the normals; `v` starts equal to `u`, so that both relaxed reflections start as the identity."""
        super().__init__()
        draws = site.draws(seed, "ether_plus")
        self.minus_in = draw_normals(num_blocks, site.num_inputs, draws)
        self.plus_in = nn.Parameter(self.minus_in.detach().clone())
        self.minus_out = draw_normals(num_blocks, site.num_outputs, draws)
        self.plus_out = nn.Parameter(self.minus_out.detach().clone())

    def forward(self, x: Tensor, y: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return what is added to the map's output.

        As differences, which are exactly zero where `u = v`: the start is then the pretrained function bit for bit.
        """
        inner = functional.linear(project(x, self.plus_in) - project(x, self.minus_in), weight)
        product = (y if bias is None else y - bias) + inner
        return inner + (project(product, self.plus_out) - project(product, self.minus_out))

    def merged(self, weight: Tensor) -> Tensor:
        """Return the weight `H' W H`."""
        inner = weight + project(weight, self.plus_in) - project(weight, self.minus_in)
        columns = inner.T
        return (columns + project(columns, self.plus_out) - project(columns, self.minus_out)).T
