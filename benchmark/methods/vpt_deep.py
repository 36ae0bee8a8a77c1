"""VPT-deep: fresh prompt tokens at the input of every block (arXiv 2203.12119).

p learned tokens behind the prefix (CLS and registers) of every block's input; what the block makes of them is dropped.
Drawn from U(-v, v) with v = sqrt(6 / (3 patch^2 + d)); dropout 0.1 as in the released code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.backbones.contract import BackboneInfo
from benchmark.methods.contract import Method
from benchmark.methods.parts.prompt_options import MATCHED_PROMPTS, PromptOptions

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class VptDeep(Method):
    """Prompt tokens before every block."""

    name = "vpt_deep"
    title = "VPT-deep"
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
        """Insert prompts before every block and take them out behind it."""
        from benchmark.methods.parts.prompts import put_into_each_block

        put_into_each_block(backbone, options, seed)

    def count_parameters(self, options: PromptOptions, backbone: BackboneInfo) -> int:
        """Return `p d` a block."""
        return options.num_prompts * backbone.width * backbone.depth


METHOD = VptDeep()
