"""Linear discriminant analysis in closed form, in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float, Int


@dataclass(frozen=True)
class ClassStatistics:
    """What the discriminant follows from.

    Attributes:
        means: Class means, [classes, width].
        shares: Each class's share of the images, [classes].
        within: Features less their class's mean, [images, width].
    """

    means: Float[Tensor, "classes width"]
    shares: Float[Tensor, " classes"]
    within: Float[Tensor, "images width"]


def class_statistics(
    features: Float[Tensor, "images width"], labels: Int[Tensor, " images"], num_classes: int
) -> ClassStatistics:
    """Return the statistics of features whose classes all have an image."""
    wide = features.double()
    counts = labels.bincount(minlength=num_classes).double()
    sums = torch.zeros(num_classes, wide.shape[1], dtype=torch.float64).index_add_(0, labels, wide)
    means = sums / counts[:, None]
    return ClassStatistics(means, counts / len(labels), wide - means[labels])


def discriminant(statistics: ClassStatistics, shrinkage: float) -> tuple[Tensor, Tensor]:
    """Return weight [classes, width] and bias [classes] at a shrinkage in (0, 1]."""
    num_images, width = statistics.within.shape
    covariance = statistics.within.T @ statistics.within / num_images
    identity = torch.eye(width, dtype=torch.float64)
    shrunk = (1.0 - shrinkage) * covariance + shrinkage * covariance.trace() / width * identity
    weight = torch.linalg.solve(shrunk, statistics.means.T).T
    bias = -0.5 * (weight * statistics.means).sum(dim=1) + statistics.shares.log()
    return weight, bias


def ledoit_wolf_shrinkage(centred: Float[Tensor, "images width"]) -> float:
    """Return the shrinkage towards `tr(C)/d I` of the least expected squared error.

    Source: Ledoit & Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", Journal of
    Multivariate Analysis 88 (2004), lemmas 3.2 to 3.4: b^2 / d^2 with b^2 cut at d^2.
    """
    num_images, width = centred.shape
    covariance = centred.T @ centred / num_images
    mean_variance = covariance.trace() / width
    distance = covariance.square().sum() - width * mean_variance**2
    error = (centred.square().sum(dim=1).square().sum() / num_images - covariance.square().sum()) / num_images
    return float((error / distance).clamp(max=1.0))
