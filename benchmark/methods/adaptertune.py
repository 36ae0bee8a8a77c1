"""AdapterTune: a residual low-rank adapter behind the blocks of a frozen backbone (arXiv 2603.14706).

After the whole block, in the blocks that `placement` names: `y <- y + U GELU(D y + b_D) + b_U`, with D Xavier-uniform,
b_D zero, and U and b_U zero (`init: zero`: the pretrained function exactly) or N(0, 1e-4^2) (`init: small`). The other
initialisations come from neighbouring methods, to be compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.backbones.contract import BackboneInfo
from benchmark.methods.contract import Method
from benchmark.methods.parts.axes import NONLINEAR, SitedBottleneckOptions
from benchmark.methods.parts.placement import blocks_of

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

    from benchmark.methods.parts.blocks import Join


class AdapterTune(Method):
    """Zero-initialised residual bottlenecks behind whole blocks; the other sites are this project's ablation."""

    name = "adaptertune"
    title = "AdapterTune"
    source = "arXiv 2603.14706"
    Options = SitedBottleneckOptions
    size = "rank"
    certified = (
        {"rank": 4},
        {"rank": 8, "placement": "last:2", "init": "small"},
        {"rank": 4, "init": "lora", "site": "attention", "residual_add": "before", "layer_norm": "out"},
        {"rank": 4, "init": "houlsby", "site": "attention", "scale": "learned", "activation": "none"},
        {"rank": 4, "init": "bert", "site": "mlp", "form": "parallel", "dropout": 0.1, "layer_norm": "in"},
        {"rank": 4, "init": "xavier", "form": "parallel", "scale": "channel", "drop_path": 0.1},
    )
    not_mergeable = NONLINEAR

    def packs(self, options: SitedBottleneckOptions) -> bool:
        """Return true: all sites are around or inside blocks."""
        return True

    def is_identity_at_start(self, options: SitedBottleneckOptions) -> bool:
        """Return whether the up-projection starts at zero."""
        return options.starts_at_identity

    def attach(self, backbone: VisionTransformer, options: SitedBottleneckOptions, seed: int) -> None:
        """Put a bottleneck into each block of the placement."""
        from benchmark.methods.parts.blocks import require_standard_blocks
        from benchmark.methods.parts.family import put_behind_blocks, put_into_branches

        if options.site == "block":
            put_behind_blocks(backbone, options, seed, is_parallel=options.form == "parallel")
            return
        require_standard_blocks(backbone, self.name)
        join: Join = "parallel" if options.form == "parallel" else options.residual_add
        put_into_branches(backbone, options, seed, (options.site,), join)

    def count_parameters(self, options: SitedBottleneckOptions, backbone: BackboneInfo) -> int:
        """Return `2dr + r + d`, the scale and the LayerNorm, for each block of the placement."""
        return len(blocks_of(options.placement, backbone.depth)) * options.count_bottleneck(backbone.width)


METHOD = AdapterTune()
