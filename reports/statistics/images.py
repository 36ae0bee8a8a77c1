"""Statistics over test images: what would change with other images of the same kind, the trained weights given.

They say nothing about seeds, and the intervals over seeds say nothing about images: the two stand side by side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reports.statistics.seeds import CONFIDENCE

WILSON_METHOD = "Wilson's score interval over test images, 95 %"
PAIRED_IMAGES_METHOD = "Bonett and Price's adjusted Wald interval over paired test images, 95 %"
MCNEMAR_NAME = "exact McNemar test over test images, two-sided"


@dataclass(frozen=True)
class McNemar:
    """Two trained models on the same test images.

    Attributes:
        num_images: How many images both labelled.
        only_a: Images that a alone labels right.
        only_b: Images that b alone labels right.
        p_value: Exact and two-sided; 1 where they err on the same images.
    """

    num_images: int
    only_a: int
    only_b: int
    p_value: float


def mcnemar(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> McNemar:
    """Test whether two models are right on as many of the same images.

    Source: McNemar (1947), with the binomial distribution of the images on which they disagree.

    Args:
        a: Whether the first model is right, shape [num_images].
        b: The same of the second, on the same images.
    """
    from scipy import stats

    assert a.shape == b.shape, "the images must be the same"
    only_a, only_b = int(np.count_nonzero(a & ~b)), int(np.count_nonzero(b & ~a))
    disagreed = only_a + only_b
    p_value = float(stats.binomtest(only_a, disagreed, 0.5).pvalue) if disagreed else 1.0
    return McNemar(a.size, only_a, only_b, p_value)


def wilson_interval(fraction: float, num_images: int) -> tuple[float, float]:
    """Return the 95 % interval of an accuracy over test images.

    Args:
        fraction: Correct share of the images; a mean over seeds is rounded to whole images, and its interval is wide.
        num_images: How many there are.
    """
    from scipy import stats

    found = stats.binomtest(round(fraction * num_images), num_images).proportion_ci(CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)


def paired_image_interval(differences: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % interval over images of the mean difference in being right.

    One image that a alone labels right and one that b alone does are added, so that models without a disagreement get a
    width too.

    Source: Bonett and Price (2012), Journal of Educational and Behavioral Statistics 37:479.

    Args:
        differences: Right by a less right by b, in [-1, 1], a mean over seeds; shape [num_images].
    """
    from scipy import special

    adjusted = np.concatenate([differences, [1.0, -1.0]])
    half_width = float(special.ndtri(0.5 + CONFIDENCE / 2) * adjusted.std() / np.sqrt(adjusted.size))
    mean = float(adjusted.mean())
    return max(-1.0, mean - half_width), min(1.0, mean + half_width)
