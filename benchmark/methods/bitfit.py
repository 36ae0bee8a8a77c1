"""BitFit: only the biases train (arXiv 2106.10199).

All of them: of the linear maps, the LayerNorms and the patch embedding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmark.backbones.contract import BackboneInfo
from benchmark.methods.contract import Method

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class BitFit(Method):
    """Trains the biases of the backbone."""

    name = "bitfit"
    title = "BitFit"
    source = "arXiv 2106.10199"
    not_mergeable = ""

    def is_identity_at_start(self, options: Any) -> bool:
        """Return true: training starts from the pretrained biases."""
        return True

    def attach(self, backbone: VisionTransformer, options: Any, seed: int) -> None:
        """Thaw every parameter that its module calls its bias."""
        for module in backbone.modules():
            bias = module._parameters.get("bias")
            if bias is not None:
                bias.requires_grad_(True)

    def count_parameters(self, options: Any, backbone: BackboneInfo) -> int:
        """Return `7d + h` a block (11d at MLP width h = 4d), and 2d for the embedding and the last LayerNorm.

        A pre-norm backbone such as CLIP's has no bias in its patch embedding, but one in the LayerNorm behind it.
        """
        return backbone.depth * (7 * backbone.width + backbone.mlp_width) + 2 * backbone.width

    def merge(self, backbone: VisionTransformer, options: Any) -> None:
        """Do nothing: the backbone is plain already."""


METHOD = BitFit()
