"""FacT-TT: one tensor train for the changes of all weights (arXiv 2212.03145, section "Factor-Tuning").

The weights of all blocks are stacked as square slices (q, k, v, proj, and the MLP's two weights as `ratio` slices each:
12 a block at MLP ratio 4). Slice t changes by `s U S_t V^T`, with U and V [d, r] shared by the whole model and S_t
[r, r] its own. U and S start as `torch.nn.Linear` does, V at zero, as in the released code (PETL-ViT, FacT/fact_tt.py);
its dropout of 0.1 between S and V is left out. The paper tunes s a task over powers of ten; the default here is 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from benchmark.backbones.contract import BackboneInfo
from benchmark.errors import Problem
from benchmark.methods.contract import Method
from benchmark.methods.parts.sites import rank_problems
from benchmark.spec import Frozen

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class FactOptions(Frozen):
    """The options of both forms of FacT."""

    rank: int = Field(default=8, ge=1, description="rank of every mode; at most the backbone's width")
    scale: float = Field(default=1.0, gt=0, description="factor s of every change")


class FactTT(Method):
    """A tensor train over all weights: the outer factors shared, the middle one each slice's own."""

    name = "fact_tt"
    title = "FacT-TT"
    source = "arXiv 2212.03145"
    Options = FactOptions
    size = "rank"
    certified = ({"rank": 4}, {"rank": 8, "scale": 2.0})
    not_mergeable = ""
    has_core = False

    def check(self, options: FactOptions, backbone: BackboneInfo) -> list[Problem]:
        """Return what does not fit: a rank above the width, or an MLP that is not made of square slices."""
        problems = rank_problems(options.rank, backbone.width)
        if backbone.mlp_width % backbone.width:
            rule = f"FacT cuts the MLP into square slices, and its width {backbone.mlp_width} is no multiple of "
            problems.append(Problem("name", self.name, f"{rule}{backbone.width}", "Choose flora or lora."))
        return problems

    def is_identity_at_start(self, options: FactOptions) -> bool:
        """Return true: V starts at zero."""
        return True

    def attach(self, backbone: VisionTransformer, options: FactOptions, seed: int) -> None:
        """Put a change beside every linear map of every block."""
        from benchmark.methods.parts.blocks import require_standard_blocks
        from benchmark.methods.parts.tucker import attach_fact

        require_standard_blocks(backbone, self.name)
        attach_fact(backbone, options.rank, options.scale, seed, self.has_core)

    def merge(self, backbone: VisionTransformer, options: FactOptions) -> None:
        """Write the trained changes into the weights they stand beside."""
        from benchmark.methods.parts.changes import merge_changes

        merge_changes(backbone)
        del backbone.fact

    def count_parameters(self, options: FactOptions, backbone: BackboneInfo) -> int:
        """Return `r^2` a slice, and `2dr` once."""
        return num_slices(backbone) * options.rank**2 + 2 * backbone.width * options.rank


def num_slices(backbone: BackboneInfo) -> int:
    """Return the square slices of all blocks: `4 + 2 ratio` each."""
    return backbone.depth * (4 + 2 * backbone.mlp_width // backbone.width)


METHOD = FactTT()
