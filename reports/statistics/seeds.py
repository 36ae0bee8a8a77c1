"""Statistics over seeds: pure functions over arrays of shape [num_seeds], one score a seed.

An interval here covers what changes with the seed (initialisation, data order, masks) on one split of one data set. It
says nothing about other splits or other images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reports.statistics.permutation import EQUAL_WITHIN, sign_flip_test

CONFIDENCE = 0.95
"""Level of every interval."""

MOST_SEEDS = 1000
"""Where the search for a sufficient number of seeds stops."""

INTERVAL_METHOD = "Student's t over paired seed differences, n - 1 degrees of freedom, two-sided 95 %"
TEST_NAME = "paired t-test over seeds, two-sided"


@dataclass(frozen=True)
class Estimate:
    """Mean and spread of one condition's scores over its seeds.

    Attributes:
        num_seeds: How many scores there are.
        mean: Their mean; none without a score.
        std: Sample standard deviation (n - 1 in the denominator); none below two scores.
        interval: 95 % interval of the mean; none below two scores.
        reason: Why something is absent, or what is unusual; none when there is nothing to say.
    """

    num_seeds: int
    mean: float | None
    std: float | None
    interval: tuple[float, float] | None
    reason: str | None = None


@dataclass(frozen=True)
class PairedDifference:
    """The difference a - b over the seeds that both sides completed.

    Attributes:
        seeds: The paired seeds, ascending.
        mean: Mean difference; none without a pair.
        std: Sample standard deviation of the differences; none below two pairs.
        interval: 95 % interval of the mean difference; none below two pairs.
        p_value: Two-sided paired t-test; none where undefined.
        sign_flip_p_value: Paired sign-flip permutation test, two-sided; none without a pair.
        smallest_p_value: The least p-value that the sign-flip test can give with so many pairs.
        reason: Why something is absent, or what is unusual.
        values: The difference of each seed.
    """

    seeds: tuple[int, ...]
    mean: float | None
    std: float | None
    interval: tuple[float, float] | None
    p_value: float | None
    sign_flip_p_value: float | None
    smallest_p_value: float | None
    reason: str | None = None
    values: tuple[float, ...] = ()

    @property
    def by_seed(self) -> dict[int, float]:
        """The difference of each paired seed."""
        return dict(zip(self.seeds, self.values, strict=True))

    @property
    def num_pairs(self) -> int:
        """The number of seeds that both sides completed."""
        return len(self.seeds)


def t_critical(num_values: int, confidence: float = CONFIDENCE) -> float:
    """Return Student's two-sided critical value with `num_values - 1` degrees of freedom."""
    from scipy import special

    return float(special.stdtrit(num_values - 1, 0.5 + confidence / 2))


def t_interval(values: Sequence[float] | NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % Student's t interval of the mean of two or more values.

    Source: mean ± t(0.975, n - 1) · s / sqrt(n), with s the sample standard deviation.
    """
    array = np.asarray(values, dtype=np.float64)
    assert array.size >= 2, "an interval needs two values"
    half_width = t_critical(array.size) * float(array.std(ddof=1)) / float(np.sqrt(array.size))
    mean = float(array.mean())
    return mean - half_width, mean + half_width


def estimate(values: Sequence[float]) -> Estimate:
    """Return mean, standard deviation and 95 % interval of the scores, with the reason for what is absent."""
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        return Estimate(0, None, None, None, "no seed has a score")
    mean = float(array.mean())
    if array.size == 1:
        return Estimate(1, mean, None, None, "one seed: no interval")
    if np.ptp(array) <= EQUAL_WITHIN:
        return Estimate(array.size, mean, 0.0, (mean, mean), "every seed gives the same score: no width")
    return Estimate(array.size, mean, float(array.std(ddof=1)), t_interval(array))


def paired_difference(a: Mapping[int, float], b: Mapping[int, float]) -> PairedDifference:
    """Return the statistics of a - b, paired by seed.

    Args:
        a: Score by seed, fractions in [0, 1].
        b: The same for the other side; seeds that only one side has are left out.
    """
    seeds = tuple(sorted(a.keys() & b.keys()))
    if not seeds:
        return PairedDifference((), None, None, None, None, None, None, "no seed completed on both sides")
    differences = np.array([a[seed] - b[seed] for seed in seeds], dtype=np.float64)
    test, mean, values = sign_flip_test([differences]), float(differences.mean()), tuple(differences.tolist())
    flipped = test.p_value, test.smallest_p_value
    if len(seeds) == 1:
        return PairedDifference(seeds, mean, None, None, None, *flipped, "one seed: no interval", values)
    if np.ptp(differences) <= EQUAL_WITHIN:
        reason = "every seed gives the same difference: the interval has no width and the t-test is undefined"
        return PairedDifference(seeds, mean, 0.0, (mean, mean), None, *flipped, reason, values)
    spread, interval = float(differences.std(ddof=1)), t_interval(differences)
    return PairedDifference(seeds, mean, spread, interval, paired_t_p_value(differences), *flipped, None, values)


def paired_t_p_value(differences: NDArray[np.float64]) -> float:
    """Return the two-sided p-value of mean difference 0; the differences are not all equal."""
    from scipy import special

    statistic = differences.mean() / (differences.std(ddof=1) / np.sqrt(differences.size))
    return float(2 * special.stdtr(differences.size - 1, -abs(statistic)))


def p_value_of_margin(difference: PairedDifference, margin: float) -> float | None:
    """Return the two-sided p-value of the paired t-test of mean difference = margin; none where it is undefined."""
    if difference.mean is None or not difference.std:
        return None
    from scipy import special

    num_pairs = len(difference.seeds)
    statistic = (difference.mean - margin) / (difference.std / num_pairs**0.5)
    return float(2 * special.stdtr(num_pairs - 1, -abs(statistic)))


def seeds_needed(distance: float, std: float) -> int | None:
    """Return roughly how many seeds would put an interval wholly on one side, were mean and spread to stay.

    Args:
        distance: Mean difference minus the margin, any sign.
        std: Standard deviation of the differences.

    Returns:
        The smallest n with t(0.975, n - 1) · std / sqrt(n) < |distance|; none above `MOST_SEEDS`.
    """
    for num_seeds in range(2, MOST_SEEDS + 1):
        if t_critical(num_seeds) * std / num_seeds**0.5 < abs(distance):
            return num_seeds
    return None
