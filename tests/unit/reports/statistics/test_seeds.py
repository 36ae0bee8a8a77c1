import math

import numpy as np
import pytest
from scipy import stats

from reports.statistics import estimate, paired_difference, seeds_needed, t_interval


def test_interval_equals_hand_computed_when_three_values():
    # Mean 2, s = 1, t(0.975, 2) = 4.302653: half-width 4.302653 / sqrt(3) = 2.484138.
    low, high = t_interval([1.0, 2.0, 3.0])
    assert (low, high) == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-6)


@pytest.mark.parametrize("num_values", [2, 3, 5, 30])
def test_interval_equals_scipy_when_values_are_random(num_values):
    values = np.random.default_rng(num_values).normal(size=num_values)
    expected = stats.t.interval(0.95, num_values - 1, loc=values.mean(), scale=stats.sem(values))
    assert t_interval(values) == pytest.approx(expected, rel=1e-12)


def test_estimate_says_why_when_one_seed():
    assert estimate([0.9]).interval is None
    assert estimate([0.9]).mean == 0.9
    assert estimate([0.9]).reason == "one seed: no interval"


def test_estimate_is_absent_when_no_seed():
    assert estimate([]).mean is None
    assert estimate([]).reason == "no seed has a score"


def test_estimate_has_no_width_when_scores_are_identical():
    result = estimate([0.9, 0.9, 0.9])
    assert result.std == 0.0
    assert result.interval == pytest.approx((0.9, 0.9))
    assert "same score" in result.reason


def test_paired_difference_equals_scipy_when_five_seeds():
    a = dict(enumerate([0.91, 0.93, 0.95, 0.90, 0.94]))
    b = dict(enumerate([0.90, 0.90, 0.93, 0.91, 0.90]))
    expected = stats.ttest_rel(list(a.values()), list(b.values()))
    result = paired_difference(a, b)
    assert result.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    assert result.interval == pytest.approx(tuple(expected.confidence_interval(0.95)), rel=1e-9)


def test_pairs_are_matched_by_seed_when_seeds_differ():
    result = paired_difference({0: 0.5, 2: 0.9, 3: 0.7}, {3: 0.6, 2: 0.7, 1: 0.1})
    assert result.seeds == (2, 3)
    assert result.mean == pytest.approx(0.15)


def test_paired_difference_is_absent_when_no_seed_is_shared():
    result = paired_difference({0: 0.5}, {1: 0.5})
    assert (result.mean, result.interval, result.p_value, result.num_pairs) == (None, None, None, 0)
    assert result.reason == "no seed completed on both sides"


def test_paired_difference_has_no_interval_when_one_seed():
    result = paired_difference({0: 0.5}, {0: 0.4})
    assert result.mean == pytest.approx(0.1)
    assert result.interval is None
    assert result.reason == "one seed: no interval"


def test_p_value_is_absent_when_differences_are_identical():
    # 0.3 - 0.1 and 0.9 - 0.7 differ in binary by rounding alone.
    result = paired_difference({0: 0.3, 1: 0.9}, {0: 0.1, 1: 0.7})
    assert result.p_value is None
    assert result.interval == pytest.approx((0.2, 0.2))
    assert "t-test is undefined" in result.reason


def test_seeds_needed_is_the_first_that_suffices_when_searched():
    needed = seeds_needed(0.01, 0.02)

    def half_width(number):
        return stats.t.ppf(0.975, number - 1) * 0.02 / math.sqrt(number)

    assert half_width(needed) < 0.01 <= half_width(needed - 1)


def test_seeds_needed_is_absent_when_no_distance():
    assert seeds_needed(0.0, 0.02) is None
