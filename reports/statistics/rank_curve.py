"""What a curve of scores over ranks supports: pure functions over an array of shape [num_seeds, num_ranks]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from reports.statistics.permutation import EQUAL_WITHIN
from reports.statistics.pooling import LEAST_SEEDS_FOR_BOOTSTRAP

NUM_DRAWS = 4_000
FEWEST_RANKS_FOR_FIT = 4
EXPONENTS = (0.1, 4.0)
"""Range of the fitted exponent: flatter than the first is a line over any sweep, steeper than the second a step."""

NUM_EXPONENTS = 30
"""In a grid over the whole range, and again in one between the neighbours of its best."""


@dataclass(frozen=True)
class ElbowDraws:
    """Where the elbow lies when the means are drawn anew.

    Attributes:
        shares: The share of draws in which each rank is the elbow, by position.
        interval: Positions of the lowest and the highest rank of the middle 95 % of draws.
        num_seeds: Paired seeds behind the draws.
        method: How they were drawn.
    """

    shares: tuple[float, ...]
    interval: tuple[int, int]
    num_seeds: int
    method: str


@dataclass(frozen=True)
class TrendTest:
    """Page's test of rising scores.

    Attributes:
        p_value: One-sided: of "no rank is better than another" against "each is at least as good as the one below".
        num_seeds: The blocks.
        largest_fall: The largest drop of the mean from one rank to the next, a fraction; 0 where it never falls.
        falls_after: The position of the rank before that drop; none where it never falls.
    """

    p_value: float
    num_seeds: int
    largest_fall: float
    falls_after: int | None


@dataclass(frozen=True)
class ErrorFit:
    """The error as floor + scale · rank^(-exponent) + slope · rank.

    Attributes:
        floor: What no rank removes, a fraction.
        scale: Of the approximation error.
        exponent: By which the approximation error falls.
        slope: Of the estimation error, a fraction a rank; 0 where it is not fitted.
        is_exponent_fixed: Whether the exponent was set to 1, for want of ranks.
        ranks: The ranks fitted.
        residuals: Observed less fitted error at each of them.
    """

    floor: float
    scale: float
    exponent: float
    slope: float
    is_exponent_fixed: bool
    ranks: tuple[float, ...]
    residuals: tuple[float, ...]

    @property
    def root_mean_square(self) -> float:
        """Of the residuals, a fraction."""
        return float(np.sqrt(np.mean(np.square(self.residuals))))

    @property
    def is_determined(self) -> bool:
        """Whether the curve bends enough to show a floor: it is above 0, and the exponent inside its range."""
        is_inside = self.is_exponent_fixed or EXPONENTS[0] * 1.001 < self.exponent < EXPONENTS[1] / 1.001
        return is_inside and self.floor > 0

    @property
    def best_rank(self) -> float | None:
        """The rank at which the fitted error is least; none where it falls for ever."""
        if self.slope * max(self.ranks) <= EQUAL_WITHIN or self.scale <= EQUAL_WITHIN:
            return None
        return float((self.exponent * self.scale / self.slope) ** (1 / (self.exponent + 1)))

    def approximation(self, ranks: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the part that falls with the rank."""
        return np.asarray(self.scale * ranks**-self.exponent)

    def estimation(self, ranks: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the part that grows with the rank."""
        return np.asarray(self.slope * ranks)

    def error(self, ranks: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the fitted error."""
        return np.asarray(self.floor + self.approximation(ranks) + self.estimation(ranks))


def elbow_positions(means: NDArray[np.float64], delta: float) -> NDArray[np.intp]:
    """Return the first position within delta of the best, along the last axis."""
    # The tolerance is compared with rounding in mind: 0.97 - 0.96 exceeds 0.01 in binary.
    near = means >= means.max(axis=-1, keepdims=True) - delta - EQUAL_WITHIN
    return np.asarray(near.argmax(axis=-1))


def elbow_draws(scores: NDArray[np.float64], delta: float, seed: int = 0) -> ElbowDraws:
    """Return how sure the elbow is, given the spread over paired seeds.

    Args:
        scores: Shape [num_seeds, num_ranks], two seeds or more.
        delta: The tolerance, a fraction.
        seed: Of the draws.
    """
    num_seeds, num_ranks = scores.shape
    elbows = elbow_positions(draw_means(scores, seed), delta)
    low, high = np.quantile(elbows, [0.025, 0.975], method="inverted_cdf")
    resampled = num_seeds >= LEAST_SEEDS_FOR_BOOTSTRAP
    method = f"{NUM_DRAWS} " + ("resamples of paired seeds" if resampled else "draws of Student's t over paired seeds")
    shares = np.bincount(elbows, minlength=num_ranks) / NUM_DRAWS
    return ElbowDraws(tuple(float(share) for share in shares), (int(low), int(high)), num_seeds, method)


def draw_means(scores: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Return `NUM_DRAWS` plausible mean curves, shape [NUM_DRAWS, num_ranks]; seeds stay whole, so pairing counts.

    From `LEAST_SEEDS_FOR_BOOTSTRAP` seeds up, means of seeds drawn with replacement. With fewer, where that is far too
    narrow, draws of the multivariate t distribution around the mean: the difference of any two ranks then has exactly
    its paired t interval.
    """
    generator, (num_seeds, _) = np.random.default_rng(seed), scores.shape
    if num_seeds >= LEAST_SEEDS_FOR_BOOTSTRAP:
        counts = generator.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), NUM_DRAWS)
        return np.asarray(counts @ scores / num_seeds)
    centre = scores.mean(axis=0)
    normal = generator.normal(size=(NUM_DRAWS, num_seeds)) @ (scores - centre)
    spread = np.sqrt((num_seeds - 1) / generator.chisquare(num_seeds - 1, (NUM_DRAWS, 1)))
    return np.asarray(centre + spread * normal / np.sqrt(num_seeds * (num_seeds - 1)))


def trend_test(scores: NDArray[np.float64]) -> TrendTest:
    """Test whether scores rise with the rank, seeds as blocks.

    Source: Page (1963), Journal of the American Statistical Association 58:216.

    Args:
        scores: Shape [num_seeds, num_ranks] by ascending rank: two seeds and three ranks, or more.
    """
    from scipy import stats

    steps = np.diff(scores.mean(axis=0))
    deepest = int(steps.argmin())
    fall = max(0.0, -float(steps[deepest]))
    p_value = float(stats.page_trend_test(scores).pvalue)
    return TrendTest(p_value, scores.shape[0], fall, deepest if fall > EQUAL_WITHIN else None)


def fit_error(ranks: Sequence[float], errors: Sequence[float], with_estimation: bool) -> ErrorFit:
    """Return the least-squares fit of the error curve, no part of it negative.

    Without the estimation part it is the saturating curve a - b · r^(-c) of the accuracy. A power and not an
    exponential: what a rank-r map leaves out of a matrix is the tail of its singular values, which in trained networks
    falls like a power, and an exponential is flat after two doublings. The estimation part grows like the number of
    trained parameters, which is linear in the rank. For a given exponent the rest is linear: it is found by
    non-negative least squares over a grid of exponents, with no starting point to choose.

    Args:
        ranks: `FEWEST_RANKS_FOR_FIT` or more; with the estimation part and no more than these, the exponent is 1.
        errors: 1 - mean accuracy at each, fractions.
        with_estimation: Whether to fit the part that grows with the rank.
    """
    assert len(ranks) >= FEWEST_RANKS_FOR_FIT, "too few ranks for the parameters"
    is_fixed = with_estimation and len(ranks) == FEWEST_RANKS_FOR_FIT
    x, y = np.asarray(ranks, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    exponent = 1.0 if is_fixed else _best_exponent(x, y, with_estimation)
    (floor, scale, slope), _ = _linear_part(x, y, exponent, with_estimation)
    fit = ErrorFit(floor, scale, exponent, slope, is_fixed, tuple(x.tolist()), ())
    return replace(fit, residuals=tuple((y - fit.error(x)).tolist()))


def _best_exponent(x: NDArray[np.float64], y: NDArray[np.float64], with_estimation: bool) -> float:
    """Return the exponent whose linear part leaves least: over the whole range, then near the best."""
    low, high = EXPONENTS
    best = low
    for _ in range(2):
        grid = np.geomspace(low, high, NUM_EXPONENTS)
        left = [_linear_part(x, y, float(exponent), with_estimation)[1] for exponent in grid]
        position = int(np.argmin(left))
        best, low, high = (
            float(grid[position]),
            float(grid[max(0, position - 1)]),
            float(grid[min(position + 1, grid.size - 1)]),
        )
    return best


def _linear_part(
    x: NDArray[np.float64], y: NDArray[np.float64], exponent: float, with_estimation: bool
) -> tuple[tuple[float, float, float], float]:
    """Return floor, scale and slope for a given exponent, and the norm of what is left."""
    from scipy import optimize

    # Ranks in units of the largest: columns of one size keep the problem well conditioned.
    unit = x.max()
    columns = [np.ones_like(x), (x / x.min()) ** -exponent, *([x / unit] if with_estimation else [])]
    solution, left = optimize.nnls(np.column_stack(columns), y)
    slope = float(solution[2] / unit) if with_estimation else 0.0
    return (float(solution[0]), float(solution[1] * x.min() ** exponent), slope), float(left)
