"""A linear head on frozen features: what every adaptation is measured against."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmark.backbones.contract import BackboneInfo
from benchmark.methods.contract import Method

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class HeadOnly(Method):
    """Trains the head alone."""

    name = "head_only"
    title = "Head only"
    source = "linear probing; the baseline of AdapterTune, arXiv 2603.14706"
    not_mergeable = ""

    def packs(self, options: Any) -> bool:
        """Return true: nothing in the backbone trains."""
        return True

    def is_identity_at_start(self, options: Any) -> bool:
        """Return true: nothing is attached."""
        return True

    def attach(self, backbone: VisionTransformer, options: Any, seed: int) -> None:
        """Attach nothing; the backbone stays frozen."""

    def count_parameters(self, options: Any, backbone: BackboneInfo) -> int:
        """Return 0: the head is counted apart."""
        return 0

    def merge(self, backbone: VisionTransformer, options: Any) -> None:
        """Do nothing: the backbone is plain already."""


METHOD = HeadOnly()
