"""ETHER: frozen weights reflected at trained hyperplanes (arXiv 2405.20271, section 3, "ETHER").

`y = W H x + b` with the Householder reflection `H = I - 2 u u^T`, |u| = 1, block-diagonal with n blocks, on the input
side of each weight. q, k and v are reflected apart. Only normals train: a reflection keeps its distance from the
identity, so there is no scale, and no identity at the start. Computed as `W x - 2 W u (u^T x)`, never as a new weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from benchmark.backbones.contract import BackboneInfo
from benchmark.errors import Problem
from benchmark.methods.contract import Method
from benchmark.methods.parts.sites import Sites, shapes_of
from benchmark.spec import Frozen

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class EtherOptions(Frozen):
    """The options of ETHER and ETHER+."""

    num_blocks: int = Field(default=4, ge=1, description="diagonal blocks n; must divide every changed width")
    sites: Sites = Field(default="all", description="which linear maps of each block are reflected")


class Ether(Method):
    """One block-diagonal reflection on the input side of each frozen weight."""

    name = "ether"
    title = "ETHER"
    source = "arXiv 2405.20271"
    Options = EtherOptions
    certified: ClassVar[tuple[Mapping[str, Any], ...]] = ({}, {"num_blocks": 2, "sites": "attention"})
    not_mergeable = ""

    def check(self, options: EtherOptions, backbone: BackboneInfo) -> list[Problem]:
        """Return whether the blocks divide the widths, and are longer than 1: there, `u` is a constant."""
        shapes = shapes_of(options.sites, backbone.width, backbone.mlp_width)
        widths = sorted({width for shape in shapes for width in shape})
        if all(width % options.num_blocks == 0 and width > options.num_blocks for width in widths):
            return []
        rule = f"the diagonal blocks must divide the widths {', '.join(map(str, widths))} into parts of at least 2"
        return [Problem("num_blocks", options.num_blocks, rule, "1 always fits.")]

    def is_identity_at_start(self, options: EtherOptions) -> bool:
        """Return false: a reflection is never the identity."""
        return False

    def attach(self, backbone: VisionTransformer, options: EtherOptions, seed: int) -> None:
        """Put a reflection before each map of the sites."""
        from benchmark.methods.parts.blocks import require_standard_blocks
        from benchmark.methods.parts.changes import change_linears
        from benchmark.methods.parts.reflections import EtherChange

        require_standard_blocks(backbone, self.name)
        change_linears(backbone.blocks, options.sites, lambda site: EtherChange(site, options.num_blocks, seed))

    def merge(self, backbone: VisionTransformer, options: EtherOptions) -> None:
        """Write the trained changes into the weights they stand beside."""
        from benchmark.methods.parts.changes import merge_changes

        merge_changes(backbone)

    def count_parameters(self, options: EtherOptions, backbone: BackboneInfo) -> int:
        """Return each map's input width."""
        shapes = shapes_of(options.sites, backbone.width, backbone.mlp_width)
        return backbone.depth * sum(inputs for inputs, _ in shapes)


METHOD = Ether()
