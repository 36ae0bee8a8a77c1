"""FLoRA: changes of frozen weights in Tucker form (arXiv 2405.14739).

For a linear map, `dW = s B G A^T`: a core G [r, r] between factors A [inputs, r] and B [outputs, r], the order-two case
of the paper's Tucker form. A and B start Kaiming-normal with a = sqrt(3), G at zero, as in the released layer; its
dropout is left out. The paper tunes s a task; the released layer's default is 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from benchmark.backbones.contract import BackboneInfo
from benchmark.errors import Problem
from benchmark.methods.contract import Method
from benchmark.methods.parts.sites import Sites, rank_problems, shapes_of
from benchmark.spec import Frozen

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class FloraOptions(Frozen):
    """FLoRA's options."""

    rank: int = Field(default=8, ge=1, description="rank of both modes of the core; at most the backbone's width")
    scale: float = Field(default=1.0, gt=0, description="factor s of every change")
    sites: Sites = Field(default="all", description="which linear maps of each block change")


class Flora(Method):
    """A Tucker core between two factors beside each frozen linear map."""

    name = "flora"
    title = "FLoRA (Tucker)"
    source = "arXiv 2405.14739"
    Options = FloraOptions
    size = "rank"
    certified = ({"rank": 4}, {"rank": 4, "sites": "qv", "scale": 2.0})
    not_mergeable = ""

    def check(self, options: FloraOptions, backbone: BackboneInfo) -> list[Problem]:
        """Return whether the rank fits the backbone's width."""
        return rank_problems(options.rank, backbone.width)

    def is_identity_at_start(self, options: FloraOptions) -> bool:
        """Return true: the cores start at zero."""
        return True

    def attach(self, backbone: VisionTransformer, options: FloraOptions, seed: int) -> None:
        """Put a change beside each map of the sites."""
        from benchmark.methods.parts.blocks import require_standard_blocks
        from benchmark.methods.parts.changes import change_linears
        from benchmark.methods.parts.tucker import FloraChange

        require_standard_blocks(backbone, self.name)
        change_linears(
            backbone.blocks, options.sites, lambda site: FloraChange(site, options.rank, options.scale, seed)
        )

    def merge(self, backbone: VisionTransformer, options: FloraOptions) -> None:
        """Write the trained changes into the weights they stand beside."""
        from benchmark.methods.parts.changes import merge_changes

        merge_changes(backbone)

    def count_parameters(self, options: FloraOptions, backbone: BackboneInfo) -> int:
        """Return `(inputs + outputs) r + r^2` for each map."""
        shapes = shapes_of(options.sites, backbone.width, backbone.mlp_width)
        per_block = sum((inputs + outputs + options.rank) * options.rank for inputs, outputs in shapes)
        return backbone.depth * per_block


METHOD = Flora()
