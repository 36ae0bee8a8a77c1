"""The trained modules of the methods that write a change as a product of small tensors: FLoRA and FacT."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from benchmark.methods.parts.changes import Change, Site
from benchmark.streams import generator

if TYPE_CHECKING:
    from jaxtyping import Float


class FloraChange(Change):
    """`s B G A^T x`: down to the rank, through the core, up again."""

    def __init__(self, site: Site, rank: int, scale: float, seed: int) -> None:
        """Draw the factors, Kaiming-normal with a = sqrt(3) over the rank; the core starts at zero."""
        super().__init__()
        self.scale = scale
        self.factor_in = nn.Parameter(torch.empty(site.num_inputs, rank))
        self.factor_out = nn.Parameter(torch.empty(site.num_outputs, rank))
        self.core = nn.Parameter(torch.zeros(rank, rank))
        draws = site.draws(seed, "flora")
        for factor in (self.factor_in, self.factor_out):
            nn.init.kaiming_normal_(factor, a=math.sqrt(3), generator=draws)

    def forward(self, x: Tensor, y: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return what is added to the map's output."""
        return (x @ self.factor_in @ self.core.T @ self.factor_out.T) * self.scale

    def merged(self, weight: Tensor) -> Tensor:
        """Return the changed weight."""
        return weight + self.scale * (self.factor_out @ self.core @ self.factor_in.T)


class FactFactors(nn.Module):
    """What FacT shares over the whole model: `U`, `V`, and for the Tucker form also `P` and the core `C`.

    Attributes:
        down: U, [width, rank].
        up: V, [rank, width]; starts at zero, so that every change does.
        slices: P, [slices of the whole model, rank]; none in the tensor-train form.
        core: C, [rank, rank, rank]; likewise.
    """

    def __init__(self, width: int, rank: int, num_slices: int, seed: int) -> None:
        """Draw U as `torch.nn.Linear` does, and P and C Xavier-uniform.

        Args:
            width: Embedding dimension.
            rank: Rank of every mode.
            num_slices: Square slices of the whole model for the Tucker form; 0 for the tensor-train form.
            seed: Names the stream.
        """
        super().__init__()
        draws = generator(seed, "fact/shared")
        self.down = nn.Parameter(nn.init.uniform_(torch.empty(width, rank), -(width**-0.5), width**-0.5, draws))
        self.up = nn.Parameter(torch.zeros(rank, width))
        self.slices: nn.Parameter | None = None
        self.core: nn.Parameter | None = None
        if num_slices:
            self.slices = nn.Parameter(nn.init.xavier_uniform_(torch.empty(num_slices, rank), generator=draws))
            self.core = nn.Parameter(nn.init.xavier_uniform_(torch.empty(rank, rank, rank), generator=draws))


class FactChange(Change):
    """`s U S V` for each square slice of a map: a map that widens or narrows holds several slices side by side."""

    def __init__(self, site: Site, shared: FactFactors, scale: float, first_slice: int, seed: int) -> None:
        """Keep the shared factors; the tensor-train form has its own middle matrices, drawn as `torch.nn.Linear` does.

        Args:
            site: The map.
            shared: What the whole model shares; registered with the backbone, hence not here.
            scale: s.
            first_slice: Row of the first slice of this map in `shared.slices`.
            seed: Names the stream.
        """
        super().__init__()
        width, rank = shared.down.shape
        self.scale, self.first_slice = scale, first_slice
        self.num_parts = (site.num_inputs // width, site.num_outputs // width)
        self._shared = (shared,)  # in a tuple, so that its parameters are not registered once a map
        self.middle: nn.Parameter | None = None
        if shared.core is None:
            bound = (rank * self.num_parts[0]) ** -0.5
            middle = torch.empty(*self.num_parts, rank, rank)
            self.middle = nn.Parameter(nn.init.uniform_(middle, -bound, bound, site.draws(seed, "fact")))

    @property
    def num_slices(self) -> int:
        """How many square slices the map holds."""
        return self.num_parts[0] * self.num_parts[1]

    def forward(self, x: Tensor, y: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return what is added to the map's output."""
        (shared,) = self._shared
        parts = x.unflatten(-1, (self.num_parts[0], -1)) @ shared.down
        mixed = torch.einsum("...ir,iors->...os", parts, self._middle())
        return (mixed @ shared.up).flatten(-2) * self.scale

    def merged(self, weight: Tensor) -> Tensor:
        """Return the changed weight."""
        (shared,) = self._shared
        slices = torch.einsum("dr,iors,se->oeid", shared.down, self._middle(), shared.up)
        return weight + self.scale * slices.reshape(weight.shape)

    def _middle(self) -> Float[Tensor, "parts_in parts_out rank rank"]:
        if self.middle is not None:
            return self.middle
        (shared,) = self._shared
        assert shared.slices is not None
        assert shared.core is not None
        rows = shared.slices[self.first_slice : self.first_slice + self.num_slices]
        return torch.einsum("nk,rsk->nrs", rows, shared.core).unflatten(0, self.num_parts)


def attach_fact(backbone: nn.Module, rank: int, scale: float, seed: int, has_core: bool) -> None:
    """Put FacT's changes beside all linear maps of a backbone.

    Args:
        backbone: timm's; gets the shared factors as its module `fact`.
        rank: Rank of every mode.
        scale: s.
        seed: Names the streams.
        has_core: Whether the middle matrices come from a Tucker core, or are each block's own.
    """
    from benchmark.methods.parts.changes import change_linears

    width, blocks = backbone.embed_dim, backbone.blocks
    assert isinstance(width, int)
    assert isinstance(blocks, nn.Sequential)
    num_slices = sum(parameter.numel() for parameter in _square_weights(blocks)) // width**2
    shared = FactFactors(width, rank, num_slices if has_core else 0, seed)
    first_slice = 0

    def make(site: Site) -> FactChange:
        nonlocal first_slice
        change = FactChange(site, shared, scale, first_slice, seed)
        first_slice += change.num_slices
        return change

    change_linears(blocks, "all", make)
    backbone.fact = shared


def _square_weights(blocks: nn.Sequential) -> list[Tensor]:
    return [linear.weight for b in blocks for linear in (b.attn.qkv, b.attn.proj, b.mlp.fc1, b.mlp.fc2)]  # type: ignore[union-attr, misc]
