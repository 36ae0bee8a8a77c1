"""Houlsby adapters: a bottleneck on the attention output and one on the MLP output (arXiv 1902.00751).

With `a` a branch's output: `x <- x + a + U f(D a + b_D) + b_U`, in both branches of each block, before the residual
add and behind LayerScale where there is one. The projections start from a normal of std 0.01 cut at two standard
deviations. As in the paper, the LayerNorms of the adapted blocks train too, unless `train_layer_norms` is off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from benchmark.backbones.contract import BackboneInfo
from benchmark.methods.contract import Method
from benchmark.methods.parts.axes import NONLINEAR, BottleneckAxes
from benchmark.methods.parts.placement import blocks_of

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class HoulsbyOptions(BottleneckAxes):
    """A bottleneck's axes, and whether LayerNorms train."""

    init: Literal["zero", "small", "lora", "houlsby", "bert", "xavier"] = Field(
        default="houlsby", description="how the projections start"
    )
    train_layer_norms: bool = Field(default=True, description="whether the LayerNorms of adapted blocks train too")


class Houlsby(Method):
    """Two bottlenecks a block, before the residual adds."""

    name = "houlsby"
    title = "Houlsby adapters"
    source = "arXiv 1902.00751"
    Options = HoulsbyOptions
    size = "rank"
    certified = ({"rank": 4}, {"rank": 4, "init": "zero", "train_layer_norms": False, "placement": "first:2"})
    not_mergeable = NONLINEAR

    def packs(self, options: HoulsbyOptions) -> bool:
        """Return whether the LayerNorms stay frozen: the adapters sit inside blocks."""
        return not options.train_layer_norms

    def is_identity_at_start(self, options: HoulsbyOptions) -> bool:
        """Return whether the up-projections start at zero."""
        return options.starts_at_identity

    def attach(self, backbone: VisionTransformer, options: HoulsbyOptions, seed: int) -> None:
        """Put two bottlenecks into each block of the placement, and thaw its LayerNorms."""
        from benchmark.methods.parts.blocks import require_standard_blocks
        from benchmark.methods.parts.family import put_into_branches

        require_standard_blocks(backbone, self.name)
        for number in blocks_of(options.placement, len(backbone.blocks)):
            block: Any = backbone.blocks[number]
            for norm in (block.norm1, block.norm2):
                norm.requires_grad_(options.train_layer_norms)
        put_into_branches(backbone, options, seed, ("attention", "mlp"), "before")

    def count_parameters(self, options: HoulsbyOptions, backbone: BackboneInfo) -> int:
        """Return `2 (2dr + r + d)`, and `4d` for the LayerNorms, for each block of the placement."""
        norms = 4 * backbone.width if options.train_layer_norms else 0
        per_block = 2 * options.count_bottleneck(backbone.width) + norms
        return len(blocks_of(options.placement, backbone.depth)) * per_block


METHOD = Houlsby()
