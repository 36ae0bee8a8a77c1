"""FacT-TK: one Tucker form for the changes of all weights (arXiv 2212.03145, section "Factor-Tuning").

As `fact_tt`, with the middle matrices `S_t = sum_k P_tk C_k` from a core C [r, r, r] and P [slices, r] instead of each
slice's own. P and C start Xavier-uniform, V at zero, as in the released code (PETL-ViT, FacT/fact_tk.py), whose dropout
is left out here too.
"""

from __future__ import annotations

from benchmark.backbones.contract import BackboneInfo
from benchmark.methods.fact_tt import FactOptions, FactTT, num_slices


class FactTK(FactTT):
    """A Tucker form over all weights: all factors shared, one row of P each slice's own."""

    name = "fact_tk"
    title = "FacT-TK"
    has_core = True

    def count_parameters(self, options: FactOptions, backbone: BackboneInfo) -> int:
        """Return `r` a slice, and `2dr + r^3` once."""
        return num_slices(backbone) * options.rank + 2 * backbone.width * options.rank + options.rank**3


METHOD = FactTK()
