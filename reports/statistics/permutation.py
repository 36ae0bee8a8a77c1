"""The paired permutation test, exact where that can be done, and Holm's correction over a table of tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SIGNIFICANCE = 0.05
"""A corrected p-value below this is called a difference."""

EQUAL_WITHIN = 1e-12
"""Scores are ratios of image counts: a spread below this is rounding, not variation."""

MOST_EXACT_PAIRS = 32
"""Up to here all 2**n sign patterns are counted, as two halves of 2**(n/2) sums; beyond, patterns are drawn."""

NUM_DRAWN_PATTERNS = 9_999
PATTERNS_AT_ONCE = 1_000


@dataclass(frozen=True)
class SignFlipTest:
    """A two-sided paired permutation test of "no difference", pooled over data sets.

    Attributes:
        p_value: The share of sign patterns whose absolute mean is at least the observed one.
        smallest_p_value: The least that so many pairs can give, whatever the scores.
        num_pairs: Pairs over all data sets.
        is_exact: Whether every pattern was counted; else `NUM_DRAWN_PATTERNS` were drawn.
    """

    p_value: float
    smallest_p_value: float
    num_pairs: int
    is_exact: bool


def sign_flip_test(strata: Sequence[NDArray[np.float64]], seed: int = 0) -> SignFlipTest:
    """Test whether the mean over data sets of paired differences is 0, by flipping the signs of pairs.

    If a and b do not differ, a pair is as likely as its exchange: each of the 2**n patterns of signs is equally likely,
    over all data sets at once. Pooling is what lets three seeds say anything: alone they cannot go below p = 0.25.

    Args:
        strata: The differences of each data set, one a paired seed; each data set weighs the same in the mean.
        seed: Draws the patterns where there are more than `MOST_EXACT_PAIRS` pairs.
    """
    filled = [np.asarray(stratum, dtype=np.float64) for stratum in strata if len(stratum)]
    assert filled, "a test needs a pair"
    weighted = np.concatenate([stratum / (stratum.size * len(filled)) for stratum in filled])
    if weighted.size > MOST_EXACT_PAIRS:
        return SignFlipTest(_drawn_share(weighted, seed), 1 / (NUM_DRAWN_PATTERNS + 1), weighted.size, False)
    return SignFlipTest(_exact_share(weighted), smallest_p_value(weighted.size), weighted.size, True)


def smallest_p_value(num_pairs: int) -> float:
    """Return the least p-value of the exact test: only the observed pattern and its opposite are as extreme."""
    return 2.0 / 2**num_pairs


def pairs_needed(num_tests: int = 1) -> int:
    """Return the fewest pairs with which the exact test can reach 5 %, Holm-corrected over so many tests."""
    needed = 1
    while num_tests * smallest_p_value(needed) >= SIGNIFICANCE:
        needed += 1
    return needed


def _exact_share(weighted: NDArray[np.float64]) -> float:
    """Count the patterns from the sums of either half, without listing them."""
    least = abs(float(weighted.sum())) - EQUAL_WITHIN
    if least <= 0:
        return 1.0
    middle = weighted.size // 2
    first, second = _signed_sums(weighted[:middle]), np.sort(_signed_sums(weighted[middle:]))
    reached = second.size - np.searchsorted(second, least - first, side="left")
    return 2 * int(reached.sum()) / 2**weighted.size


def _signed_sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum of the values under each of their 2**n patterns of signs."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def _drawn_share(weighted: NDArray[np.float64], seed: int) -> float:
    """Return the share of drawn patterns as extreme as the observed one, which counts itself."""
    generator, least, reached, left = np.random.default_rng(seed), abs(float(weighted.sum())), 1, NUM_DRAWN_PATTERNS
    while left:
        number = min(left, PATTERNS_AT_ONCE)
        signs = 2.0 * generator.integers(0, 2, size=(number, weighted.size)) - 1
        reached += int(np.count_nonzero(np.abs(signs @ weighted) >= least - EQUAL_WITHIN))
        left -= number
    return reached / (NUM_DRAWN_PATTERNS + 1)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return Holm's adjusted p-values in the given order; absent ones stay absent and do not count.

    Source: Holm (1979), A simple sequentially rejective multiple test procedure.
    """
    known = sorted((p_value, index) for index, p_value in enumerate(p_values) if p_value is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for position, (p_value, index) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - position) * p_value))
        adjusted[index] = largest
    return adjusted
