"""LoRA: a low-rank addition to frozen linear maps (arXiv 2106.09685, equation 3).

`W x + (alpha / r) B A x` with A Kaiming-uniform (a = sqrt(5)) and B zero. By default at the query and the value, which
in timm are rows of one fused map; each has an A of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from benchmark.backbones.contract import BackboneInfo
from benchmark.methods.contract import Method, RankedOptions
from benchmark.methods.parts.placement import blocks_of

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

SITES = ("q", "k", "v", "qkv", "proj", "fc1", "fc2")


class LoraOptions(RankedOptions):
    """Rank, placement, and which linear maps."""

    sites: str = Field(
        default="q,v", description="linear maps, comma-separated: q, k, v or the fused qkv; proj, fc1, fc2"
    )
    alpha: float | None = Field(default=None, gt=0, description="the addition is scaled by alpha / rank; null: by 1")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="of the input to A")

    @field_validator("sites")
    @classmethod
    def _sites_are_known(cls, sites: str) -> str:
        names = {name.strip() for name in sites.split(",")}
        if not names <= set(SITES) or ("qkv" in names and names & {"q", "k", "v"}):
            raise ValueError(f"must list some of {', '.join(SITES)}, each once, and qkv only without q, k, v")
        return ",".join(site for site in SITES if site in names)

    @property
    def scale(self) -> float:
        """The factor alpha / r."""
        return 1.0 if self.alpha is None else self.alpha / self.rank

    @property
    def site_names(self) -> tuple[str, ...]:
        """The sites, in the order of the forward pass."""
        return tuple(self.sites.split(","))


class Lora(Method):
    """Low-rank additions to linear maps."""

    name = "lora"
    title = "LoRA"
    source = "arXiv 2106.09685"
    Options = LoraOptions
    size = "rank"
    certified = (
        {"rank": 4},
        {"rank": 4, "sites": "qkv,proj,fc1,fc2", "alpha": 8.0, "dropout": 0.1, "placement": "last:2"},
    )
    not_mergeable = ""

    def is_identity_at_start(self, options: LoraOptions) -> bool:
        """Return true: B starts at zero."""
        return True

    def attach(self, backbone: VisionTransformer, options: LoraOptions, seed: int) -> None:
        """Add low-rank maps at the sites of each block of the placement."""
        from benchmark.methods.parts.blocks import require_standard_blocks
        from benchmark.methods.parts.linears import put_low_rank

        require_standard_blocks(backbone, self.name)
        numbers = blocks_of(options.placement, len(backbone.blocks))
        put_low_rank(backbone, numbers, options.site_names, options.rank, options.scale, options.dropout, seed)

    def count_parameters(self, options: LoraOptions, backbone: BackboneInfo) -> int:
        """Return `(d_in + d_out) r` for each site of each block of the placement."""
        width, hidden = backbone.width, backbone.mlp_width
        in_and_out = {"qkv": 4 * width, "fc1": width + hidden, "fc2": hidden + width}
        per_block = options.rank * sum(in_and_out.get(site, 2 * width) for site in options.site_names)
        return len(blocks_of(options.placement, backbone.depth)) * per_block

    def merge(self, backbone: VisionTransformer, options: LoraOptions) -> None:
        """Write `W + (alpha / r) B A` into each map."""
        from benchmark.methods.parts.linears import LowRankLinear, replace_modules

        replace_modules(backbone, LowRankLinear, LowRankLinear.merged)


METHOD = Lora()
