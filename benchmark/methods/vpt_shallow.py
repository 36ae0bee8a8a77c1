"""VPT-shallow: prompt tokens at the input of the first block (arXiv 2203.12119).

p learned tokens behind the prefix (CLS and registers), before the first block; they travel to the last one, where they
are taken out again, so that average pooling sees image tokens alone. Drawn from U(-v, v) with
v = sqrt(6 / (3 patch^2 + d)); dropout 0.1 as in the released code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.backbones.contract import BackboneInfo
from benchmark.methods.contract import Method
from benchmark.methods.parts.prompt_options import MATCHED_PROMPTS, PromptOptions

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class VptShallow(Method):
    """Prompt tokens before the first block."""

    name = "vpt_shallow"
    title = "VPT-shallow"
    source = "arXiv 2203.12119"
    Options = PromptOptions
    size = "num_prompts"
    certified = ({"num_prompts": 4},)
    not_mergeable = "prompts are tokens, not weights"

    def sizes(self, name: str, backbone: BackboneInfo) -> range:
        """Return the numbers of prompts that a budget may choose."""
        return MATCHED_PROMPTS

    def is_identity_at_start(self, options: PromptOptions) -> bool:
        """Return false: other tokens attend to the prompts."""
        return False

    def attach(self, backbone: VisionTransformer, options: PromptOptions, seed: int) -> None:
        """Insert the prompts before the first block and take them out behind the last."""
        from benchmark.methods.parts.prompts import put_through_all_blocks

        put_through_all_blocks(backbone, options, seed)

    def count_parameters(self, options: PromptOptions, backbone: BackboneInfo) -> int:
        """Return `p d`."""
        return options.num_prompts * backbone.width


METHOD = VptShallow()
