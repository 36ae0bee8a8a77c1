"""Statistics over several data sets: pure functions over one array (or seed -> score) a data set.

Every data set weighs the same, however many seeds it has. "Data set" stands for what is averaged over: where a study
has several backbones, each pair of backbone and data set is one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reports.statistics.permutation import EQUAL_WITHIN
from reports.statistics.seeds import CONFIDENCE, t_interval

LEAST_SEEDS_FOR_BOOTSTRAP = 10
NUM_RESAMPLES = 2_000

Scores = Sequence[NDArray[np.float64]]
Statistic = Callable[..., Any]

T_METHOD = "Student's t over paired seeds, each seed's mean over data sets, 95 %"
BOOTSTRAP_METHOD = f"percentile bootstrap stratified over data sets, {NUM_RESAMPLES} resamples, 95 %"


@dataclass(frozen=True)
class Pooled:
    """A mean over data sets with its interval.

    Attributes:
        mean: The mean over data sets of the means over seeds; none where a data set has no seed.
        interval: 95 % interval; none where there is too little.
        method: How the interval was made; none without one.
        num_seeds: The fewest seeds that a data set has.
        reason: Why something is absent; none otherwise.
    """

    mean: float | None
    interval: tuple[float, float] | None
    method: str | None
    num_seeds: int
    reason: str | None = None


def interquartile_mean(scores: Scores) -> float:
    """Return the mean of the middle half of all runs of all data sets.

    Source: Agarwal et al. (2021), arXiv 2108.13264, whose code takes the same function.
    """
    from scipy import stats

    return float(stats.trim_mean(np.concatenate(list(scores)), 0.25))


def mean_over_data_sets(scores: Scores) -> float:
    """Return the mean over data sets of the means over seeds."""
    return float(np.mean([stratum.mean() for stratum in scores]))


def stratified_bootstrap(scores: Scores, statistic: Statistic, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile interval of a statistic, drawing seeds anew within each data set.

    It knows only the runs there are: over 3 seeds it covers about 74 % and not 95 %, so callers ask for it from
    `LEAST_SEEDS_FOR_BOOTSTRAP` seeds up. Drawing a data set's seeds apart from the others' treats trials that share a
    seed number as unrelated.

    Args:
        scores: One array a data set, shape [num_seeds].
        statistic: Maps one array a data set, resamples along `axis`, to the statistic.
        seed: Of the draws; the same gives the same interval.
    """
    from scipy import stats

    # `random_state` is the name that every scipy from 1.13 on knows.
    found = stats.bootstrap(
        tuple(scores),
        statistic,
        n_resamples=NUM_RESAMPLES,
        vectorized=True,
        confidence_level=CONFIDENCE,
        method="percentile",
        random_state=np.random.default_rng(seed),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def pooled_mean(by_data_set: Sequence[Mapping[int, float]], seed: int = 0) -> Pooled:
    """Return the mean over data sets of scores, or of paired differences, with an interval that fits their number.

    With fewer than `LEAST_SEEDS_FOR_BOOTSTRAP` seeds each seed is first averaged over the data sets, and Student's t
    goes over the seeds that all data sets have: right even where trials of one seed share their initialisation. From
    there up it is the stratified bootstrap.

    Args:
        by_data_set: Score (or difference) by seed, one mapping a data set.
        seed: Of the bootstrap's draws.
    """
    fewest = min((len(scores) for scores in by_data_set), default=0)
    if fewest == 0:
        return Pooled(None, None, None, 0, "a data set has no seed")
    arrays = _arrays(by_data_set)
    mean = mean_over_data_sets(arrays)
    if all(np.ptp(array) <= EQUAL_WITHIN for array in arrays) and fewest > 1:
        return Pooled(mean, (mean, mean), T_METHOD, fewest, "every seed gives the same: no width")
    if fewest >= LEAST_SEEDS_FOR_BOOTSTRAP:
        return Pooled(mean, stratified_bootstrap(arrays, _mean_statistic, seed), BOOTSTRAP_METHOD, fewest)
    shared = sorted(set.intersection(*(set(scores) for scores in by_data_set)))
    if len(shared) < 2:
        return Pooled(mean, None, None, fewest, "fewer than two seeds completed on every data set: no interval")
    low, high = t_interval([float(np.mean([scores[number] for scores in by_data_set])) for number in shared])
    return Pooled(mean, (low, high), T_METHOD, fewest)


def pooled_interquartile_mean(by_data_set: Sequence[Mapping[int, float]], seed: int = 0) -> Pooled:
    """Return the interquartile mean over all runs of all data sets, with an interval where the bootstrap may give one.

    Args:
        by_data_set: Score by seed, one mapping a data set.
        seed: Of the bootstrap's draws.
    """
    fewest = min((len(scores) for scores in by_data_set), default=0)
    if fewest == 0:
        return Pooled(None, None, None, 0, "a data set has no seed")
    arrays = _arrays(by_data_set)
    centre = interquartile_mean(arrays)
    if fewest < LEAST_SEEDS_FOR_BOOTSTRAP:
        reason = f"too few seeds (needs {LEAST_SEEDS_FOR_BOOTSTRAP}) for a bootstrap interval"
        return Pooled(centre, None, None, fewest, reason)
    return Pooled(centre, stratified_bootstrap(arrays, _iqm_statistic, seed), BOOTSTRAP_METHOD, fewest)


def _arrays(by_data_set: Sequence[Mapping[int, float]]) -> list[NDArray[np.float64]]:
    return [np.array(list(scores.values()), dtype=np.float64) for scores in by_data_set]


def _mean_statistic(*samples: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    return np.mean([sample.mean(axis=axis) for sample in samples], axis=0)


def _iqm_statistic(*samples: NDArray[np.float64], axis: int = -1) -> Any:
    from scipy import stats

    return stats.trim_mean(np.concatenate(samples, axis=axis), 0.25, axis=axis)


def probability_of_improvement(pairs: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> float:
    """Return P(X > Y), the mean over data sets of the share of run pairs in which x wins; a tie counts one half.

    Source: Agarwal et al. (2021), arXiv 2108.13264, section 4.3; the Mann-Whitney statistic U / (n m).

    Args:
        pairs: The runs (x, y) of each data set, shapes [num_x] and [num_y].
    """
    shares = [np.mean((x[:, None] > y) + 0.5 * (x[:, None] == y)) for x, y in pairs]
    return float(np.mean(shares))


def improvement_interval(pairs: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> tuple[float, float]:
    """Return the 95 % score interval of P(X > Y).

    It has a width even where x won every time, when no resampling of the runs can give one, and so serves any number of
    seeds. All data sets are given one common probability in the variance: where theirs differ it is too wide.

    Source: Newcombe (2006), Statistics in Medicine 25:559, method 5, with the variance of a mean over data sets.
    """
    share = probability_of_improvement(pairs)
    sizes = [(x.size, y.size) for x, y in pairs]
    return _lower_improvement(share, sizes), 1 - _lower_improvement(1 - share, sizes)


def _lower_improvement(share: float, sizes: Sequence[tuple[int, int]]) -> float:
    """Return the probability below `share` at which it would lie on the edge of its 95 % region."""
    from scipy import optimize, special

    edge = float(special.ndtri(0.5 + CONFIDENCE / 2))

    def beyond(probability: float) -> float:
        return (share - probability) ** 2 - edge**2 * _improvement_variance(probability, sizes)

    # A trivial root lies at 0 and at 1: the search stops short of it.
    highest = min(share, 1 - 1e-9)
    return float(optimize.brentq(beyond, 0.0, highest)) if highest > 0 and beyond(highest) < 0 else 0.0


def _improvement_variance(probability: float, sizes: Sequence[tuple[int, int]]) -> float:
    """Return the variance of the share, by Hanley and McNeil, for a mean over data sets of the given sizes."""
    terms = []
    for num_x, num_y in sizes:
        shared = (num_x + num_y) / 2 - 1
        ties = (1 - probability) / (2 - probability) + probability / (1 + probability)
        terms.append(probability * (1 - probability) * (1 + shared * ties) / (num_x * num_y))
    return sum(terms) / len(sizes) ** 2
