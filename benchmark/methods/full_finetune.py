"""Full fine-tuning: every parameter of the backbone trains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmark.backbones.contract import BackboneInfo
from benchmark.methods.contract import Method

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class FullFinetune(Method):
    """Trains everything; give it a learning rate of its own."""

    name = "full_finetune"
    title = "Full fine-tuning"
    source = "the baseline of AdapterTune, arXiv 2603.14706"
    not_mergeable = ""

    def is_identity_at_start(self, options: Any) -> bool:
        """Return true: training starts from the pretrained weights."""
        return True

    def attach(self, backbone: VisionTransformer, options: Any, seed: int) -> None:
        """Thaw every parameter."""
        backbone.requires_grad_(True)

    def count_parameters(self, options: Any, backbone: BackboneInfo) -> int:
        """Return the backbone's own number of parameters."""
        return backbone.num_parameters

    def merge(self, backbone: VisionTransformer, options: Any) -> None:
        """Do nothing: the backbone is plain already."""


METHOD = FullFinetune()
