"""AdaptFormer: a scaled bottleneck in parallel to the MLP (arXiv 2205.13535).

`y = u + MLP(LN u) + s (U ReLU(D u + b_D) + b_U)` with s = 0.1; D Kaiming-uniform, U and the biases zero; dropout 0.1
between the projections as in the released code. `layer_norm` gives the bottleneck a LayerNorm before or behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from benchmark.backbones.contract import BackboneInfo
from benchmark.methods.contract import Method
from benchmark.methods.parts.axes import NONLINEAR, Activation, BottleneckAxes, Scale
from benchmark.methods.parts.placement import blocks_of

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class AdaptFormerOptions(BottleneckAxes):
    """A bottleneck's axes with this method's defaults."""

    init: Literal["zero", "small", "lora", "houlsby", "bert", "xavier"] = Field(
        default="lora", description="how the projections start"
    )
    activation: Activation = Field(default="relu", description="nonlinearity between the projections")
    scale: Scale = Field(default=0.1, description="factor on the correction")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="of the bottleneck's activations")


class AdaptFormer(Method):
    """One bottleneck a block, beside the MLP."""

    name = "adaptformer"
    title = "AdaptFormer"
    source = "arXiv 2205.13535"
    Options = AdaptFormerOptions
    size = "rank"
    certified = ({"rank": 4}, {"rank": 4, "layer_norm": "in", "scale": "learned"})
    not_mergeable = NONLINEAR

    def packs(self, options: AdaptFormerOptions) -> bool:
        """Return true: the adapters sit inside blocks."""
        return True

    def is_identity_at_start(self, options: AdaptFormerOptions) -> bool:
        """Return whether the up-projections start at zero."""
        return options.starts_at_identity

    def attach(self, backbone: VisionTransformer, options: AdaptFormerOptions, seed: int) -> None:
        """Put a bottleneck beside the MLP of each block of the placement."""
        from benchmark.methods.parts.blocks import require_standard_blocks
        from benchmark.methods.parts.family import put_into_branches

        require_standard_blocks(backbone, self.name)
        put_into_branches(backbone, options, seed, ("mlp",), "parallel")

    def count_parameters(self, options: AdaptFormerOptions, backbone: BackboneInfo) -> int:
        """Return `2dr + r + d`, the scale and the LayerNorm, for each block of the placement."""
        return len(blocks_of(options.placement, backbone.depth)) * options.count_bottleneck(backbone.width)


METHOD = AdaptFormer()
