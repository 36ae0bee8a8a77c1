import itertools
import math

import numpy as np
import pytest
from scipy import optimize, stats

from reports.statistics.rank_curve import draw_means, elbow_draws, elbow_positions, fit_error, trend_test

RANKS = (4, 8, 16, 32, 64)


def test_elbow_counts_the_bound_when_the_gap_equals_delta():
    # 0.97 - 0.96 exceeds 0.01 in binary.
    assert elbow_positions(np.array([[0.96, 0.97], [0.9599, 0.97]]), 0.01).tolist() == [0, 1]


def test_draws_agree_with_the_paired_t_interval_when_seeds_are_few():
    scores = np.random.default_rng(0).normal([0.8, 0.85], 0.02, (3, 2))
    draws = draw_means(scores, seed=1)
    difference = scores[:, 1] - scores[:, 0]
    expected = stats.t.interval(0.5, 2, difference.mean(), stats.sem(difference))
    # Quartiles of 4,000 draws: within a twentieth of the width.
    tolerance = 0.05 * (expected[1] - expected[0])
    assert np.quantile(draws[:, 1] - draws[:, 0], [0.25, 0.75]) == pytest.approx(expected, abs=tolerance)


def test_draws_are_means_of_resampled_seeds_when_ten_seeds():
    scores = np.random.default_rng(0).normal(0.8, 0.02, (10, 1))
    draws = draw_means(scores, seed=1)
    assert draws.min() >= scores.min()
    assert draws.std() == pytest.approx(scores.std() / 10**0.5, rel=0.05)


def test_confidence_equals_the_t_distribution_when_two_ranks():
    # The first of two ranks is the elbow where the difference of the means is at most delta.
    scores = np.array([[0.900, 0.912], [0.910, 0.918], [0.905, 0.921]])
    difference = scores[:, 1] - scores[:, 0]
    expected = stats.t.cdf((0.01 - difference.mean()) / stats.sem(difference), 2)
    found = elbow_draws(scores, 0.01)
    assert found.shares[0] == pytest.approx(expected, abs=4 * (0.25 / 4000) ** 0.5)
    assert (found.num_seeds, sum(found.shares)) == (3, pytest.approx(1.0))


def test_interval_is_one_rank_when_the_spread_is_small():
    curve = 1 - 0.3 * np.array(RANKS) ** -1.0
    scores = curve + np.array([[0.0], [1e-4], [-1e-4]])
    found = elbow_draws(scores, 0.01)
    # 0.3/4 … 0.3/64: 0.075, 0.0375, 0.019, 0.0094, 0.0047; within 0.0147 of none: rank 32.
    assert found.interval == (3, 3)
    assert found.shares[3] == 1.0


def test_seed_decides_the_draws_when_given():
    scores = np.random.default_rng(0).normal(0.8, 0.02, (4, 5))
    assert elbow_draws(scores, 0.01, seed=1) == elbow_draws(scores, 0.01, seed=1)
    assert elbow_draws(scores, 0.01, seed=1) != elbow_draws(scores, 0.01, seed=2)


@pytest.mark.parametrize("num_seeds", [3, 10])
def test_interval_holds_the_true_elbow_when_simulated(num_seeds):
    # At least 95 % less four standard errors over 150 studies: an interval of whole ranks holds more than it says.
    truth = 0.95 - 0.2 * np.array(RANKS) ** -0.8
    elbow = int(elbow_positions(truth, 0.01))
    generator, held = np.random.default_rng(8), []
    for _ in range(150):
        low, high = elbow_draws(truth + generator.normal(0, 0.01, (num_seeds, 5)), 0.01).interval
        held.append(low <= elbow <= high)
    assert np.mean(held) > 0.95 - 4 * (0.95 * 0.05 / 150) ** 0.5


def test_trend_equals_all_permutations_when_three_seeds():
    scores = np.array([[0.1, 0.2, 0.3], [0.2, 0.1, 0.4], [0.1, 0.3, 0.2]])
    weights = np.arange(1, 4)
    observed = sum(weights @ stats.rankdata(row) for row in scores)
    every = [sum(weights @ np.array(row) for row in rows) for rows in itertools.product(_orders(), repeat=3)]
    assert trend_test(scores).p_value == pytest.approx(np.mean(np.array(every) >= observed))


def _orders():
    return list(itertools.permutations((1, 2, 3)))


def test_largest_fall_is_named_when_the_curve_is_not_monotone():
    found = trend_test(np.array([[0.1, 0.5, 0.4, 0.6], [0.1, 0.5, 0.2, 0.6]]))
    assert found.largest_fall == pytest.approx(0.2)
    assert found.falls_after == 1
    assert trend_test(np.array([[0.1, 0.2, 0.3]] * 2)).falls_after is None


def test_saturating_fit_finds_the_parameters_when_the_curve_is_exact():
    errors = 0.05 + 0.4 * np.array(RANKS) ** -0.7
    fit = fit_error(RANKS, errors, with_estimation=False)
    assert (fit.floor, fit.scale, fit.exponent) == pytest.approx((0.05, 0.4, 0.7), rel=0.03)
    assert fit.root_mean_square < 1e-4
    assert fit.best_rank is None


def test_saturating_fit_equals_scipy_when_noisy():
    errors = 0.05 + 0.4 * np.array(RANKS) ** -0.7 + np.random.default_rng(1).normal(0, 0.004, 5)
    form = lambda r, floor, scale, exponent: floor + scale * r**-exponent  # noqa: E731
    expected, _ = optimize.curve_fit(form, np.array(RANKS, dtype=float), errors, (0.1, 0.5, 1.0), bounds=(0, 4))
    fit = fit_error(RANKS, errors, with_estimation=False)
    least = np.sqrt(np.mean((errors - form(np.array(RANKS, dtype=float), *expected)) ** 2))
    # The grid of exponents has steps of 3 %; next to the minimum that changes the residual in the third digit.
    assert fit.root_mean_square == pytest.approx(least, rel=0.01)
    assert fit.exponent == pytest.approx(expected[2], rel=0.05)


def test_excess_risk_finds_both_parts_when_the_curve_turns():
    ranks = np.array([2, *RANKS, 128])
    errors = 0.05 + 0.5 * ranks**-1.0 + 0.0005 * ranks
    fit = fit_error(tuple(ranks), errors, with_estimation=True)
    assert (fit.floor, fit.scale, fit.exponent, fit.slope) == pytest.approx((0.05, 0.5, 1.0, 0.0005), rel=0.06)
    # d/dr (0.5 / r + 0.0005 r) = 0 at sqrt(1000).
    assert fit.best_rank == pytest.approx(math.sqrt(1000), rel=0.05)


def test_exponent_is_set_when_four_ranks_cannot_give_it():
    ranks = np.array([8.0, 16, 32, 64])
    fit = fit_error(tuple(ranks), 0.1 + 0.3 / ranks + 0.0002 * ranks, with_estimation=True)
    assert fit.is_exponent_fixed
    assert (fit.floor, fit.scale, fit.slope) == pytest.approx((0.1, 0.3, 0.0002), rel=1e-6)


def test_no_part_is_negative_when_errors_grow_with_the_rank():
    fit = fit_error(RANKS, [0.1, 0.11, 0.12, 0.13, 0.14], with_estimation=False)
    assert fit.scale == 0.0
    assert fit.floor == pytest.approx(0.12)


def test_floor_is_called_undetermined_when_the_curve_never_bends():
    # Each doubling of the rank removes as much as the one before: no ceiling is in sight.
    fit = fit_error(RANKS, [0.5, 0.4, 0.3, 0.2, 0.1], with_estimation=False)
    assert not fit.is_determined
