"""Adapter+: a bottleneck behind the block with a learned scale a channel (arXiv 2406.06820).

`y <- y + s * DropPath(U GELU(D y + b_D) + b_U)` with s learned from 1, one a channel; Houlsby's initialisation, no
LayerNorm of its own, DropPath 0.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from benchmark.backbones.contract import BackboneInfo
from benchmark.methods.contract import Method
from benchmark.methods.parts.axes import NONLINEAR, BottleneckAxes, Scale
from benchmark.methods.parts.placement import blocks_of

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class AdapterPlusOptions(BottleneckAxes):
    """A bottleneck's axes with this method's defaults."""

    init: Literal["zero", "small", "lora", "houlsby", "bert", "xavier"] = Field(
        default="houlsby", description="how the projections start"
    )
    scale: Scale = Field(default="channel", description="factor on the correction")
    drop_path: float = Field(default=0.1, ge=0, lt=1, description="of an image's whole correction")


class AdapterPlus(Method):
    """One bottleneck a block, scaled by channel."""

    name = "adapter_plus"
    title = "Adapter+"
    source = "arXiv 2406.06820"
    Options = AdapterPlusOptions
    size = "rank"
    certified = ({"rank": 4}, {"rank": 4, "init": "lora", "scale": "learned"})
    not_mergeable = NONLINEAR

    def packs(self, options: AdapterPlusOptions) -> bool:
        """Return true: the adapters sit around or inside blocks."""
        return True

    def is_identity_at_start(self, options: AdapterPlusOptions) -> bool:
        """Return whether the up-projections start at zero."""
        return options.starts_at_identity

    def attach(self, backbone: VisionTransformer, options: AdapterPlusOptions, seed: int) -> None:
        """Put a bottleneck behind each block of the placement."""
        from benchmark.methods.parts.family import put_behind_blocks

        put_behind_blocks(backbone, options, seed)

    def count_parameters(self, options: AdapterPlusOptions, backbone: BackboneInfo) -> int:
        """Return `2dr + r + 2d` for each block of the placement."""
        return len(blocks_of(options.placement, backbone.depth)) * options.count_bottleneck(backbone.width)


METHOD = AdapterPlus()
