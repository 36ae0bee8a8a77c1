"""AdapterTune: a residual low-rank adapter behind the blocks of a frozen backbone (arXiv 2603.14706).

After the whole block, in the blocks that `placement` names: `y <- y + U GELU(D y + b_D) + b_U`, with D Xavier-uniform,
b_D zero, and U and b_U zero (`init: zero`: the pretrained function exactly) or N(0, 1e-4^2) (`init: small`). The other
initialisations come from neighbouring methods, to be compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.backbones.contract import BackboneInfo
from benchmark.methods.contract import BottleneckOptions, Method
from benchmark.methods.parts.placement import blocks_of

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class AdapterTune(Method):
    """Zero-initialised residual bottlenecks behind whole blocks."""

    name = "adaptertune"
    title = "AdapterTune"
    source = "arXiv 2603.14706"
    Options = BottleneckOptions

    def is_identity_at_start(self, options: BottleneckOptions) -> bool:
        """Return whether the up-projection starts at zero."""
        return options.init in ("zero", "lora")

    def attach(self, backbone: VisionTransformer, options: BottleneckOptions, seed: int) -> None:
        """Put a bottleneck behind each block of the placement."""
        from benchmark.methods.parts.bottleneck import put_behind_blocks

        numbers = blocks_of(options.placement, len(backbone.blocks))
        put_behind_blocks(backbone.blocks, numbers, backbone.embed_dim, options.rank, options.init, seed)

    def count_parameters(self, options: BottleneckOptions, backbone: BackboneInfo) -> int:
        """Return `2dr + r + d` for each block of the placement."""
        per_block = 2 * backbone.width * options.rank + options.rank + backbone.width
        return len(blocks_of(options.placement, backbone.depth)) * per_block


METHOD = AdapterTune()
