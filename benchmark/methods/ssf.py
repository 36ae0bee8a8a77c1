"""SSF: scale and shift the features behind every operation (arXiv 2210.08823; cf. FiLM, 1709.07871).

`x <- gamma * x + beta` behind LN1, qkv, proj, LN2, fc1 and fc2 of each block, the patch embedding and the last
LayerNorm; gamma ~ N(1, 0.02^2), beta ~ N(0, 0.02^2). Merged, it is a plain backbone again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmark.backbones.contract import BackboneInfo
from benchmark.methods.contract import Method

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class Ssf(Method):
    """A scale and a shift behind every operation."""

    name = "ssf"
    title = "SSF"
    source = "arXiv 2210.08823"
    not_mergeable = ""

    def is_identity_at_start(self, options: Any) -> bool:
        """Return false: scales and shifts are drawn."""
        return False

    def attach(self, backbone: VisionTransformer, options: Any, seed: int) -> None:
        """Put a scale and a shift behind each operation."""
        from benchmark.methods.parts.blocks import require_standard_blocks
        from benchmark.methods.parts.scaling import put_scales

        require_standard_blocks(backbone, self.name)
        put_scales(backbone, seed)

    def count_parameters(self, options: Any, backbone: BackboneInfo) -> int:
        """Return `2 (7d + h)` a block (22d at MLP width h = 4d), and 4d once."""
        return backbone.depth * 2 * (7 * backbone.width + backbone.mlp_width) + 4 * backbone.width

    def merge(self, backbone: VisionTransformer, options: Any) -> None:
        """Write scales and shifts into the operations before them."""
        from benchmark.methods.parts.scaling import merge_scales

        merge_scales(backbone)


METHOD = Ssf()
