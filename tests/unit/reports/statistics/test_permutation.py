import itertools

import numpy as np
import pytest
from scipy import stats

from reports.statistics import holm, pairs_needed, sign_flip_test
from reports.statistics.permutation import smallest_p_value


def share_of_patterns(strata):
    """Brute force: the mean over data sets under every pattern of signs."""
    sizes = np.cumsum([len(stratum) for stratum in strata])[:-1]
    flat = np.concatenate(strata)

    def statistic(signs):
        return abs(np.mean([part.mean() for part in np.split(flat * signs, sizes)]))

    observed = statistic(np.ones(flat.size))
    patterns = itertools.product((1, -1), repeat=flat.size)
    return np.mean([statistic(np.array(signs)) >= observed - 1e-12 for signs in patterns])


def test_sign_flip_equals_hand_computed_when_three_pairs():
    # |±1 ±2 ±3| / 3 reaches 2 for + + + and - - - only: 2 of 8 patterns.
    test = sign_flip_test([np.array([1.0, 2.0, 3.0])])
    assert (test.p_value, test.smallest_p_value, test.num_pairs, test.is_exact) == (0.25, 0.25, 3, True)


def test_sign_flip_equals_hand_computed_when_two_data_sets_are_pooled():
    # Pairs weigh 1/2 in the first and 1/4 each in the second: |±2/2 ±1/4 ±1/4| reaches 1.5 in 2 of 8 patterns;
    # with the last pair negative (1 + 1/4 - 1/4 = 1), those whose big pair agrees with a sum of 0 or more: 6 of 8.
    assert sign_flip_test([np.array([2.0]), np.array([1.0, 1.0])]).p_value == 2 / 8
    assert sign_flip_test([np.array([2.0]), np.array([1.0, -1.0])]).p_value == 6 / 8


def test_sign_flip_equals_scipy_when_six_pairs():
    differences = np.array([0.01, -0.02, 0.03, 0.015, 0.04, -0.005])
    expected = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    assert sign_flip_test([differences]).p_value == pytest.approx(expected.pvalue)


@pytest.mark.parametrize("sizes", [(5,), (3, 3, 3), (1, 4, 2)])
def test_sign_flip_equals_brute_force_when_data_sets_differ_in_seeds(sizes):
    generator = np.random.default_rng(sum(sizes))
    # Whole image counts of a split of 360: ties are the rule.
    strata = [generator.integers(-4, 9, size) / 360 for size in sizes]
    assert sign_flip_test(strata).p_value == pytest.approx(share_of_patterns(strata))


def test_sign_flip_is_one_when_nothing_differs():
    assert sign_flip_test([np.zeros(3)]).p_value == 1.0


def test_patterns_are_drawn_near_the_exact_share_when_pairs_are_many(monkeypatch):
    strata = [np.random.default_rng(4).normal(0.2, 1.0, 30)]
    exact = sign_flip_test(strata)
    monkeypatch.setattr("reports.statistics.permutation.MOST_EXACT_PAIRS", 29)
    drawn = sign_flip_test(strata, seed=1)
    assert (exact.is_exact, drawn.is_exact) == (True, False)
    # Four standard errors of a share among 9,999 draws.
    assert drawn.p_value == pytest.approx(exact.p_value, abs=4 * (exact.p_value * (1 - exact.p_value) / 9_999) ** 0.5)
    assert drawn.smallest_p_value == pytest.approx(1e-4)


def test_seed_decides_the_drawn_patterns_when_pairs_are_many():
    strata = [np.random.default_rng(4).normal(0.2, 1.0, 40)]
    assert sign_flip_test(strata, seed=3) == sign_flip_test(strata, seed=3)
    assert sign_flip_test(strata, seed=3) != sign_flip_test(strata, seed=4)


def test_type_one_error_stays_below_five_percent_when_nothing_differs():
    # Five data sets of three seeds, skewed differences; 5 % ± four standard errors over 2,000 studies.
    generator = np.random.default_rng(11)
    signs, sizes = generator.choice([-1.0, 1.0], (2000, 5, 3)), generator.exponential(1.0, (2000, 5, 3))
    rejected = np.mean([sign_flip_test(list(study)).p_value < 0.05 for study in signs * sizes])
    assert rejected == pytest.approx(0.05, abs=4 * (0.05 * 0.95 / 2000) ** 0.5)


@pytest.mark.parametrize(("num_tests", "expected"), [(1, 6), (4, 8), (15, 10)])
def test_pairs_needed_is_the_first_that_reaches_five_percent_when_corrected(num_tests, expected):
    # 2/2^6 = 0.031; 4 · 2/2^8 = 0.031; 15 · 2/2^10 = 0.029, and one pair fewer gives twice that.
    assert pairs_needed(num_tests) == expected
    assert num_tests * smallest_p_value(expected) < 0.05 <= num_tests * smallest_p_value(expected - 1)


def test_holm_equals_hand_computed_when_one_is_absent():
    # Sorted 0.01, 0.02, 0.04 times 3, 2, 1: 0.03, 0.04, 0.04.
    assert holm([0.04, None, 0.01, 0.02]) == pytest.approx([0.04, None, 0.03, 0.04])


def test_holm_stays_monotone_and_capped_when_p_values_are_large():
    # 3 × 0.3 = 0.9, then max(0.9, 2 × 0.31), then max(0.9, 0.95).
    assert holm([0.3, 0.31, 0.95]) == pytest.approx([0.9, 0.9, 0.95])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
