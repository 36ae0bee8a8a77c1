import numpy as np
import pytest
from scipy import stats

from reports.statistics.images import mcnemar, paired_image_interval, wilson_interval


def test_mcnemar_equals_hand_computed_when_six_images_disagree():
    # a alone is right on 5 images, b alone on 1: 2 · (C(6,0) + C(6,1)) / 2^6 = 14 / 64.
    a = np.array([True] * 5 + [False] + [True] * 4)
    b = np.array([False] * 5 + [True] + [True] * 4)
    test = mcnemar(a, b)
    assert (test.num_images, test.only_a, test.only_b) == (10, 5, 1)
    assert test.p_value == pytest.approx(14 / 64)


def test_mcnemar_is_one_when_models_err_on_the_same_images():
    right = np.array([True, False, True])
    assert mcnemar(right, right).p_value == 1.0


def test_mcnemar_nears_the_chi_squared_form_when_many_images_disagree():
    # The asymptotic test with continuity correction: (|b - c| - 1)² / (b + c).
    a, b = np.zeros(1000, dtype=bool), np.zeros(1000, dtype=bool)
    a[:300], b[300:540] = True, True
    assert mcnemar(a, b).p_value == pytest.approx(stats.chi2.sf(59**2 / 540, 1), rel=0.02)


def test_wilson_equals_hand_computed_when_ninety_of_a_hundred():
    # (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n) with z = 1.959964: 0.82563 and 0.94477.
    assert wilson_interval(0.9, 100) == pytest.approx((0.82563, 0.94477), abs=1e-5)


def test_paired_interval_equals_hand_computed_when_ten_images():
    # Bonett and Price: (5+1)/12 and (1+1)/12, difference 4/12, half-width z sqrt((8/12 - (4/12)²) / 12).
    differences = np.array([1.0] * 5 + [-1.0] + [0.0] * 4)
    half_width = stats.norm.ppf(0.975) * ((8 / 12 - (4 / 12) ** 2) / 12) ** 0.5
    assert paired_image_interval(differences) == pytest.approx((4 / 12 - half_width, 4 / 12 + half_width))


def test_paired_interval_has_a_width_when_models_agree_everywhere():
    low, high = paired_image_interval(np.zeros(100))
    assert low == pytest.approx(-high)
    assert high > 0.02


def test_paired_interval_covers_when_simulated():
    # a alone right with 8 %, b alone with 5 %; 95 % less four standard errors over 1,000 test sets of 300 images.
    generator = np.random.default_rng(2)
    differences = generator.choice([1.0, -1.0, 0.0], p=[0.08, 0.05, 0.87], size=(1000, 300))
    intervals = np.array([paired_image_interval(row) for row in differences])
    covered = np.mean((intervals[:, 0] <= 0.03) & (intervals[:, 1] >= 0.03))
    assert covered == pytest.approx(0.95, abs=4 * (0.95 * 0.05 / 1000) ** 0.5)
