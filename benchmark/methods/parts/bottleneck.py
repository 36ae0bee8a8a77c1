"""The residual bottleneck and its initialisations."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from benchmark.methods.parts.axes import BottleneckAxes
from benchmark.methods.parts.masks import Dropout, DropPath
from benchmark.streams import generator

if TYPE_CHECKING:
    from jaxtyping import Float

SMALL_STD = 1.0e-4
"""Of the `small` initialisation (AdapterTune, arXiv 2603.14706, released code)."""

HOULSBY_STD = 0.01
"""Of the `houlsby` initialisation (arXiv 1902.00751)."""

BERT_STD = 0.02
"""Of the `bert` initialisation (arXiv 2005.00247)."""


class QuickGELU(nn.Module):
    """`x sigmoid(1.702 x)` (arXiv 1606.08415, section 2; the activation of CLIP)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation."""
        return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "quick_gelu": QuickGELU,
    "none": nn.Identity,
}


class Bottleneck(nn.Module):
    """`s (U f(D y + b_D) + b_U)`: down to the rank, a nonlinearity, up to the width again."""

    def __init__(self, width: int, axes: BottleneckAxes, layer: str) -> None:
        """Make the two projections; `initialise` gives them their values.

        Args:
            width: Of the tokens.
            axes: Rank, activation, scale, LayerNorm, dropout, DropPath.
            layer: Names the streams of its masks.
        """
        super().__init__()
        self.down = nn.Linear(width, axes.rank)
        self.activation = ACTIVATIONS[axes.activation]()
        self.dropout = _mask(Dropout, axes.dropout, f"{layer}/dropout")
        self.up = nn.Linear(axes.rank, width)
        self.drop_path = _mask(DropPath, axes.drop_path, f"{layer}/drop_path")
        self.norm_in = nn.LayerNorm(width) if axes.layer_norm == "in" else nn.Identity()
        self.norm_out = nn.LayerNorm(width) if axes.layer_norm == "out" else nn.Identity()
        self.scale: float | nn.Parameter = (
            axes.scale
            if isinstance(axes.scale, float)
            else nn.Parameter(torch.ones(width if axes.scale == "channel" else 1))
        )

    def forward(self, y: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens width"]:
        """Return the correction that is added to `y`."""
        hidden = self.dropout(self.activation(self.down(self.norm_in(y))))
        correction: Tensor = self.drop_path(self.up(hidden))
        if isinstance(self.scale, nn.Parameter) or self.scale != 1.0:
            correction = correction * self.scale
        normed: Tensor = self.norm_out(correction)
        return normed

    @torch.no_grad()
    def initialise(self, init: str, draws: torch.Generator) -> None:
        """Set the start values of the projections; biases are zero except where said.

        Args:
            init: `zero`: D Xavier-uniform, U zero, so the correction is exactly zero while D still passes gradients
                on to U. `small`: as `zero`, but U and b_U ~ N(0, 1e-4^2). `lora`: D Kaiming-uniform with a = sqrt(5),
                U zero. `houlsby`: both from a normal of std 0.01 cut at two standard deviations. `bert`: both from
                N(0, 0.02^2). `xavier`: both Xavier-uniform.
            draws: Where the random numbers come from.
        """
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.bias)
        fill(self.down.weight, _DOWN_LAW[init], draws)
        fill(self.up.weight, _UP_LAW[init], draws)
        if init == "small":
            fill(self.up.bias, "small", draws)


def build_bottleneck(width: int, axes: BottleneckAxes, seed: int, layer: str) -> Bottleneck:
    """Return an initialised bottleneck; `layer` names its stream, whichever others exist."""
    adapter = Bottleneck(width, axes, layer)
    adapter.initialise(axes.init, generator(seed, layer))
    return adapter


def fill(tensor: Tensor, law: str, draws: torch.Generator) -> None:
    """Fill a weight in place from one of the laws `zero`, `xavier`, `kaiming`, `houlsby`, `bert`, `small`."""
    if law == "zero":
        nn.init.zeros_(tensor)
    elif law == "xavier":
        nn.init.xavier_uniform_(tensor, generator=draws)
    elif law == "kaiming":
        nn.init.kaiming_uniform_(tensor, a=math.sqrt(5), generator=draws)
    elif law == "houlsby":
        nn.init.trunc_normal_(tensor, std=HOULSBY_STD, a=-2 * HOULSBY_STD, b=2 * HOULSBY_STD, generator=draws)
    elif law in ("bert", "small"):
        nn.init.normal_(tensor, std=BERT_STD if law == "bert" else SMALL_STD, generator=draws)
    else:
        raise AssertionError(law)


_DOWN_LAW = {
    "zero": "xavier",
    "small": "xavier",
    "lora": "kaiming",
    "houlsby": "houlsby",
    "bert": "bert",
    "xavier": "xavier",
}
_UP_LAW = {"zero": "zero", "small": "small", "lora": "zero", "houlsby": "houlsby", "bert": "bert", "xavier": "xavier"}


def _mask(kind: type[Dropout] | type[DropPath], probability: float, layer: str) -> nn.Module:
    return kind(probability, layer) if probability > 0.0 else nn.Identity()
