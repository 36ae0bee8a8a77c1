"""Pfeiffer adapters: one bottleneck behind the MLP (arXiv 2005.00247; the layer is that of MAD-X, arXiv 2005.00052).

`y <- y + U ReLU(D y + b_D) + b_U` behind the MLP's residual add: its place in a pre-norm Vision Transformer in the
released code of arXiv 2406.06820. Both projections start from BERT's N(0, 0.02^2). `layer_norm: in` gives the adapter
a LayerNorm of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from benchmark.backbones.contract import BackboneInfo
from benchmark.methods.contract import Method
from benchmark.methods.parts.axes import NONLINEAR, Activation, BottleneckAxes
from benchmark.methods.parts.placement import blocks_of

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class PfeifferOptions(BottleneckAxes):
    """A bottleneck's axes with this method's defaults."""

    init: Literal["zero", "small", "lora", "houlsby", "bert", "xavier"] = Field(
        default="bert", description="how the projections start"
    )
    activation: Activation = Field(default="relu", description="nonlinearity between the projections")


class Pfeiffer(Method):
    """One bottleneck a block, behind the MLP."""

    name = "pfeiffer"
    title = "Pfeiffer adapters"
    source = "arXiv 2005.00247"
    Options = PfeifferOptions
    size = "rank"
    certified = ({"rank": 4}, {"rank": 4, "layer_norm": "in", "placement": "every:2"})
    not_mergeable = NONLINEAR

    def packs(self, options: PfeifferOptions) -> bool:
        """Return true: the adapters sit inside blocks."""
        return True

    def is_identity_at_start(self, options: PfeifferOptions) -> bool:
        """Return whether the up-projections start at zero."""
        return options.starts_at_identity

    def attach(self, backbone: VisionTransformer, options: PfeifferOptions, seed: int) -> None:
        """Put a bottleneck behind each block of the placement."""
        from benchmark.methods.parts.family import put_behind_blocks

        put_behind_blocks(backbone, options, seed)

    def count_parameters(self, options: PfeifferOptions, backbone: BackboneInfo) -> int:
        """Return `2dr + r + d`, and `2d` for a LayerNorm of its own, for each block of the placement."""
        return len(blocks_of(options.placement, backbone.depth)) * options.count_bottleneck(backbone.width)


METHOD = Pfeiffer()
