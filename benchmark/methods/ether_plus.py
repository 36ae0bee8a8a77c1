"""ETHER+: relaxed reflections on both sides of frozen weights (arXiv 2405.20271, section 3, "ETHER+").

`y = H' W H x + b` with `H = I - u u^T + v v^T`, |u| = |v| = 1, block-diagonal with n blocks, and H' alike with its own
normals. With v = u both are the identity, which is the start here; the released code starts at v = -u, the same. The
two projections are subtracted from each other before anything is added, so the start is exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.backbones.contract import BackboneInfo
from benchmark.methods.ether import Ether, EtherOptions
from benchmark.methods.parts.sites import shapes_of

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class EtherPlus(Ether):
    """Two relaxed block-diagonal reflections, one on either side of each frozen weight."""

    name = "ether_plus"
    title = "ETHER+"

    def is_identity_at_start(self, options: EtherOptions) -> bool:
        """Return true: u = v."""
        return True

    def attach(self, backbone: VisionTransformer, options: EtherOptions, seed: int) -> None:
        """Put relaxed reflections around each map of the sites."""
        from benchmark.methods.parts.blocks import require_standard_blocks
        from benchmark.methods.parts.changes import change_linears
        from benchmark.methods.parts.reflections import EtherPlusChange

        require_standard_blocks(backbone, self.name)
        change_linears(backbone.blocks, options.sites, lambda site: EtherPlusChange(site, options.num_blocks, seed))

    def count_parameters(self, options: EtherOptions, backbone: BackboneInfo) -> int:
        """Return `2 (inputs + outputs)` for each map."""
        shapes = shapes_of(options.sites, backbone.width, backbone.mlp_width)
        return backbone.depth * sum(2 * (inputs + outputs) for inputs, outputs in shapes)


METHOD = EtherPlus()
