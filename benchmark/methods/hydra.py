"""Hydra: a parallel and a sequential linear branch at a linear map (arXiv 2309.06922).

`y = W x + b`; `y + s P(x) + s S(y)` with P and S linear bottlenecks `U (D x + b_D) + b_U`; at the attention's output
projection and at fc2. D Xavier-uniform, all else zero; s is chosen by data set in the paper. Merged, it is one
linear map again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from benchmark.backbones.contract import BackboneInfo
from benchmark.methods.contract import Method, RankedOptions
from benchmark.methods.parts.placement import blocks_of

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class HydraOptions(RankedOptions):
    """Rank, placement, scale and dropout."""

    scale: float = Field(default=1.0, gt=0, description="factor on both branches; the paper chooses it by data set")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="between the projections of each branch")


class Hydra(Method):
    """Two linear branches at two linear maps a block."""

    name = "hydra"
    title = "Hydra"
    source = "arXiv 2309.06922"
    Options = HydraOptions
    size = "rank"
    certified = ({"rank": 2}, {"rank": 2, "scale": 0.5, "dropout": 0.1, "placement": "first:2"})
    not_mergeable = ""

    def is_identity_at_start(self, options: HydraOptions) -> bool:
        """Return true: the up-projections and their biases start at zero."""
        return True

    def attach(self, backbone: VisionTransformer, options: HydraOptions, seed: int) -> None:
        """Put the branches at the output projection and fc2 of each block of the placement."""
        from benchmark.methods.parts.blocks import require_standard_blocks
        from benchmark.methods.parts.linear_branches import put_branches

        require_standard_blocks(backbone, self.name)
        numbers = blocks_of(options.placement, len(backbone.blocks))
        put_branches(backbone, numbers, options.rank, options.scale, options.dropout, seed)

    def count_parameters(self, options: HydraOptions, backbone: BackboneInfo) -> int:
        """Return `(7d + h) r + 4r + 4d` (11dr + 4r + 4d at MLP width h = 4d) for each block of the placement."""
        width, rank = backbone.width, options.rank
        per_block = (7 * width + backbone.mlp_width) * rank + 4 * rank + 4 * width
        return len(blocks_of(options.placement, backbone.depth)) * per_block

    def merge(self, backbone: VisionTransformer, options: HydraOptions) -> None:
        """Write both branches into each linear map."""
        from benchmark.methods.parts.linear_branches import BranchedLinear
        from benchmark.methods.parts.linears import replace_modules

        replace_modules(backbone, BranchedLinear, BranchedLinear.merged)


METHOD = Hydra()
