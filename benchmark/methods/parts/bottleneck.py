"""The residual bottleneck and how it is put behind a block."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from benchmark.streams import generator

if TYPE_CHECKING:
    from jaxtyping import Float

SMALL_STD = 1.0e-4
"""Of the `small` initialisation (AdapterTune, arXiv 2603.14706, released code)."""

HOULSBY_STD = 0.01
"""Of the `houlsby` initialisation (arXiv 1902.00751)."""

BERT_STD = 0.02
"""Of the `bert` initialisation (arXiv 2005.00247)."""


class Bottleneck(nn.Module):
    """`U GELU(D y + b_D) + b_U`: down to the rank, a nonlinearity, up to the width again."""

    def __init__(self, width: int, rank: int) -> None:
        """Make the two projections; `initialise` gives them their values."""
        super().__init__()
        self.down = nn.Linear(width, rank)
        self.activation = nn.GELU()
        self.up = nn.Linear(rank, width)

    def forward(self, y: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens width"]:
        """Return the correction that is added to `y`."""
        correction: Tensor = self.up(self.activation(self.down(y)))
        return correction

    @torch.no_grad()
    def initialise(self, init: str, draws: torch.Generator) -> None:
        """Set the start values; biases are zero except where said.

        Args:
            init: `zero`: D Xavier-uniform, U zero, so the correction is exactly zero while D still passes gradients
                on to U. `small`: as `zero`, but U and b_U ~ N(0, 1e-4^2). `lora`: D Kaiming-uniform with a = sqrt(5),
                U zero. `houlsby`: both from a normal of std 0.01 cut at two standard deviations. `bert`: both from
                N(0, 0.02^2). `xavier`: both Xavier-uniform.
            draws: Where the random numbers come from.
        """
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
        _fill(self.down.weight, _DOWN_LAW[init], draws)
        _fill(self.up.weight, _UP_LAW[init], draws)
        if init == "small":
            _fill(self.up.bias, "small", draws)


_DOWN_LAW = {
    "zero": "xavier",
    "small": "xavier",
    "lora": "kaiming",
    "houlsby": "houlsby",
    "bert": "bert",
    "xavier": "xavier",
}
_UP_LAW = {"zero": "zero", "small": "small", "lora": "zero", "houlsby": "houlsby", "bert": "bert", "xavier": "xavier"}


def _fill(tensor: Tensor, law: str, draws: torch.Generator) -> None:
    if law == "xavier":
        nn.init.xavier_uniform_(tensor, generator=draws)
    elif law == "kaiming":
        nn.init.kaiming_uniform_(tensor, a=math.sqrt(5), generator=draws)
    elif law == "houlsby":
        nn.init.trunc_normal_(tensor, std=HOULSBY_STD, a=-2 * HOULSBY_STD, b=2 * HOULSBY_STD, generator=draws)
    elif law in ("bert", "small"):
        nn.init.normal_(tensor, std=BERT_STD if law == "bert" else SMALL_STD, generator=draws)


class AdaptedBlock(nn.Module):
    """A frozen block followed by a residual adapter: `y + adapter(y)` with `y = block(x)`."""

    def __init__(self, block: nn.Module, adapter: nn.Module) -> None:
        """Keep the block as it is and put the adapter behind it."""
        super().__init__()
        self.block = block
        self.adapter = adapter

    def forward(self, x: Float[Tensor, "batch tokens width"], **options: Any) -> Float[Tensor, "batch tokens width"]:
        """Return the adapted output of the block."""
        y: Tensor = self.block(x, **options)
        return y + self.adapter(y)


def put_behind_blocks(
    blocks: nn.Sequential, numbers: tuple[int, ...], width: int, rank: int, init: str, seed: int
) -> None:
    """Replace the blocks of these numbers by themselves with a bottleneck behind.

    Each adapter draws from a stream named after its block, so its start does not depend on which others exist.
    """
    for number in numbers:
        adapter = Bottleneck(width, rank)
        adapter.initialise(init, generator(seed, f"adapter/block{number}"))
        blocks[number] = AdaptedBlock(blocks[number], adapter)
