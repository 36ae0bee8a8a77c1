"""Convpass: a convolutional bypass beside attention and MLP (arXiv 2207.07039).

`x + Attn(LN1 x) + s C(LN1 x)`, and likewise at the MLP, with C: down to rank r, QuickGELU, a 3x3 convolution over the
grid of image tokens, QuickGELU, dropout 0.1, up again. Each prefix token is convolved as a 1x1 image of its own, as the
released code does with CLS. D Xavier-uniform, the convolution starts as the identity, the rest at zero. The paper
chooses s by data set from 0.01 to 100.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from benchmark.backbones.contract import BackboneInfo
from benchmark.methods.contract import Method, RankedOptions
from benchmark.methods.parts.axes import NONLINEAR
from benchmark.methods.parts.placement import blocks_of

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class ConvpassOptions(RankedOptions):
    """Rank, placement, scale and dropout."""

    scale: float = Field(default=1.0, gt=0, description="factor on the bypass; the paper chooses it by data set")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="before the up-projection")


class Convpass(Method):
    """Two convolutional bypasses a block."""

    name = "convpass"
    title = "Convpass"
    source = "arXiv 2207.07039"
    Options = ConvpassOptions
    size = "rank"
    certified = ({"rank": 4}, {"rank": 4, "scale": 0.1, "placement": "last:2"})
    not_mergeable = NONLINEAR

    def packs(self, options: ConvpassOptions) -> bool:
        """Return true: the bypasses sit inside blocks."""
        return True

    def is_identity_at_start(self, options: ConvpassOptions) -> bool:
        """Return true: the up-projection and its bias start at zero."""
        return True

    def attach(self, backbone: VisionTransformer, options: ConvpassOptions, seed: int) -> None:
        """Put a bypass beside attention and MLP of each block of the placement."""
        from benchmark.methods.parts.blocks import require_standard_blocks
        from benchmark.methods.parts.convolution import put_bypasses

        require_standard_blocks(backbone, self.name, pre_norm_only=True)
        numbers = blocks_of(options.placement, len(backbone.blocks))
        put_bypasses(backbone, numbers, options.rank, options.scale, options.dropout, seed)

    def count_parameters(self, options: ConvpassOptions, backbone: BackboneInfo) -> int:
        """Return `2 (2dr + 2r + d + 9r^2)` for each block of the placement."""
        width, rank = backbone.width, options.rank
        per_block = 2 * (2 * width * rank + 2 * rank + width + 9 * rank**2)
        return len(blocks_of(options.placement, backbone.depth)) * per_block


METHOD = Convpass()
