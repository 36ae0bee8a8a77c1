"""APLA: train the attention's output projection alone, or a random part of it (arXiv 2503.11335).

The part is a random set of the projection's outputs in each block: their columns in the paper's notation, rows of
torch's weight, with their biases.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from benchmark.backbones.contract import BackboneInfo
from benchmark.methods.contract import Method
from benchmark.spec import Frozen

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class AplaOptions(Frozen):
    """How much of the projection trains."""

    fraction: float = Field(default=1.0, gt=0, le=1, description="share of each projection's outputs that trains")

    def num_outputs(self, width: int) -> int:
        """Return how many outputs of a projection train: the nearest number, at least one."""
        return max(1, round(self.fraction * width))


class Apla(Method):
    """Trains the output projection of attention."""

    name = "apla"
    title = "APLA"
    source = "arXiv 2503.11335"
    Options = AplaOptions
    size = "fraction"
    certified = ({}, {"fraction": 0.25})
    not_mergeable = ""

    def sizes(self, name: str, backbone: BackboneInfo) -> list[float]:
        """Return the fraction of each whole number of outputs."""
        return [num_outputs / backbone.width for num_outputs in range(1, backbone.width + 1)]

    def is_identity_at_start(self, options: AplaOptions) -> bool:
        """Return true: training starts from the pretrained projection."""
        return True

    def attach(self, backbone: VisionTransformer, options: AplaOptions, seed: int) -> None:
        """Thaw each block's projection, or make its chosen outputs trainable."""
        from benchmark.methods.parts.blocks import require_standard_blocks
        from benchmark.methods.parts.partial import put_partial_projections

        require_standard_blocks(backbone, self.name)
        num_outputs = options.num_outputs(backbone.embed_dim)
        if num_outputs < backbone.embed_dim:
            put_partial_projections(backbone, num_outputs, seed)
            return
        for block in backbone.blocks:
            attention: Any = block.attn
            attention.proj.requires_grad_(True)

    def count_parameters(self, options: AplaOptions, backbone: BackboneInfo) -> int:
        """Return `k (d + 1)` a block, for k of d outputs."""
        return backbone.depth * options.num_outputs(backbone.width) * (backbone.width + 1)

    def merge(self, backbone: VisionTransformer, options: AplaOptions) -> None:
        """Write the trained outputs into the projections."""
        from benchmark.methods.parts.linears import replace_modules
        from benchmark.methods.parts.partial import PartialLinear

        replace_modules(backbone, PartialLinear, PartialLinear.merged)


METHOD = Apla()
