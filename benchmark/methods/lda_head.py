"""Linear discriminant analysis on frozen features: a head in closed form, without a single gradient.

`w_c = S^-1 mu_c` and `b_c = -1/2 mu_c^T S^-1 mu_c + log pi_c`, with the class means mu_c, the classes' shares pi_c of
the training images, and the shrunk pooled covariance within classes `S = (1 - l) C + l tr(C)/d I` (cf. Deep SLDA, arXiv
1909.01520, equations 1 to 3, which shrinks as `(1 - e) C + e I`; First Session Adaptation, arXiv 2303.13199).

All training images are seen once, without augmentation, and that is the trial's only epoch: the training settings of
the trial change nothing. Everything is computed in float64; the head is stored in float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from benchmark.backbones.contract import BackboneInfo
from benchmark.errors import TrialError
from benchmark.methods.contract import LabelledFeatures, Method
from benchmark.spec import Frozen

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer
    from torch import Tensor, nn

SHRINKAGE_GRID = (1.0e-4, 1.0e-3, 1.0e-2, 0.03, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
"""What `shrinkage: validation` chooses from."""


class LdaOptions(Frozen):
    """How the covariance is shrunk."""

    shrinkage: Literal["fixed", "ledoit_wolf", "validation"] = Field(
        default="ledoit_wolf", description="how l is set; validation: the grid's most accurate, then of lowest loss"
    )
    shrinkage_value: float = Field(default=0.1, gt=0, le=1, description="l where shrinkage is `fixed`")


class LdaHead(Method):
    """A head fitted in closed form; nothing trains."""

    name = "lda_head"
    title = "LDA head"
    source = "arXiv 1909.01520, 2303.13199"
    Options = LdaOptions
    fits_head = True
    not_mergeable = ""
    certified: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {},
        {"shrinkage": "validation"},
        {"shrinkage": "fixed", "shrinkage_value": 0.3},
    )

    def is_identity_at_start(self, options: LdaOptions) -> bool:
        """Return true: nothing is attached."""
        return True

    def attach(self, backbone: VisionTransformer, options: LdaOptions, seed: int) -> None:
        """Attach nothing; the backbone stays frozen."""

    def fit_head(
        self, head: nn.Linear, options: LdaOptions, train: LabelledFeatures, validation: LabelledFeatures
    ) -> None:
        """Set weight and bias of the head.

        Raises:
            TrialError: A class has no training image, so it has no mean.
        """
        from benchmark.methods.parts.discriminant import class_statistics, discriminant, ledoit_wolf_shrinkage

        counts = train.labels.bincount(minlength=head.out_features)
        if not bool((counts > 0).all()):
            absent = (counts == 0).nonzero().flatten().tolist()
            raise TrialError(f"lda_head needs a training image of every class; none of {absent[:10]}")
        statistics = class_statistics(train.features, train.labels, head.out_features)
        candidates: tuple[float, ...] = (options.shrinkage_value,)
        if options.shrinkage == "ledoit_wolf":
            candidates = (ledoit_wolf_shrinkage(statistics.within),)
        elif options.shrinkage == "validation":
            candidates = SHRINKAGE_GRID
        solutions = [discriminant(statistics, value) for value in candidates]
        weight, bias = min(solutions, key=lambda solution: _badness(solution[0], solution[1], validation))
        head.weight.data.copy_(weight)
        head.bias.data.copy_(bias)

    def count_parameters(self, options: LdaOptions, backbone: BackboneInfo) -> int:
        """Return 0: the head is counted apart."""
        return 0

    def merge(self, backbone: VisionTransformer, options: LdaOptions) -> None:
        """Do nothing: the backbone is plain already."""


def _badness(weight: Tensor, bias: Tensor, validation: LabelledFeatures) -> tuple[float, float]:
    """Return the validation error and, to break ties, the loss."""
    import torch.nn.functional as functional

    logits = validation.features.double() @ weight.T + bias
    error = (logits.argmax(dim=1) != validation.labels).double().mean()
    return float(error), float(functional.cross_entropy(logits, validation.labels))


METHOD = LdaHead()
