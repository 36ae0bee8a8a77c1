import math

import pytest

from reports.conditions import group_conditions
from reports.rank import rank_curves, recommendation
from tests.unit.reports.synthetic import completed, failed, make_spec, make_study


def curves(scores, **options):
    """One seed a rank; scores are (rank, test, validation)."""
    trials = [completed(make_spec("lora", 0, rank=rank, **options), test, value) for rank, test, value in scores]
    return rank_curves(group_conditions(make_study(trials)))


def test_elbow_is_the_smallest_rank_within_delta_when_gains_diminish():
    (curve,) = curves([(4, 0.9, 0.90), (16, 0.9, 0.97), (8, 0.9, 0.961), (32, 0.9, 0.969)])
    assert curve.elbow.option("rank") == 8
    assert curve.best.option("rank") == 16


def test_elbow_reads_validation_when_test_disagrees():
    (curve,) = curves([(4, 0.99, 0.80), (8, 0.10, 0.97)])
    assert curve.elbow.option("rank") == 8


def test_elbow_counts_the_bound_when_the_gap_equals_delta():
    # 0.97 - 0.96 exceeds 0.01 in binary.
    (curve,) = curves([(4, 0.9, 0.96), (8, 0.9, 0.97)])
    assert curve.elbow.option("rank") == 4


def test_curves_are_apart_when_another_option_differs():
    trials = [
        completed(make_spec("lora", 0, rank=rank, init=init), 0.9, 0.9) for rank in (4, 8) for init in ("zero", "small")
    ]
    assert [len(curve.conditions) for curve in rank_curves(group_conditions(make_study(trials)))] == [2, 2]


def test_no_curve_when_only_one_rank():
    assert curves([(4, 0.9, 0.9)]) == []


@pytest.mark.parametrize("absent", [None, math.nan])
def test_rank_is_named_when_it_has_no_validation_score(absent):
    (curve,) = curves([(4, 0.9, absent), (8, 0.9, 0.97)])
    assert curve.elbow.option("rank") == 8
    assert "no validation score at rank 4" in recommendation(curve)


def test_no_recommendation_when_every_rank_failed():
    trials = [failed(make_spec("lora", 0, rank=rank)) for rank in (4, 8)]
    (curve,) = rank_curves(group_conditions(make_study(trials)))
    assert curve.elbow is None
    assert "no rank can be recommended" in recommendation(curve)


def test_recommendation_says_that_no_elbow_was_reached_when_the_largest_rank_is_best():
    (curve,) = curves([(4, 0.9, 0.80), (8, 0.9, 0.97)])
    assert "no elbow was reached" in recommendation(curve)


@pytest.mark.parametrize(("last", "expected"), [(0.97, False), (0.805, True)])
def test_curve_has_levelled_off_when_its_elbow_is_not_the_largest_rank(last, expected):
    (curve,) = curves([(4, 0.9, 0.80), (8, 0.9, last)])
    assert curve.is_levelled_off is expected


def seeded_curve(errors_by_rank, num_seeds=4, spread=0.002):
    trials = [
        completed(make_spec("lora", seed, rank=rank), 0.5, 1 - error + spread * (seed - 1.5))
        for rank, error in errors_by_rank.items()
        for seed in range(num_seeds)
    ]
    (curve,) = rank_curves(group_conditions(make_study(trials)))
    return curve


def test_recommendation_gives_its_confidence_when_seeds_are_paired():
    # Every seed shifts all ranks alike, so that the differences between ranks have no spread at all.
    curve = seeded_curve({4: 0.10, 8: 0.056, 16: 0.051, 32: 0.05})
    assert (curve.confidence, curve.elbow_interval) == (1.0, (8, 8))
    assert "use r = 8 (confidence 100 %," in recommendation(curve)
    assert "95 % interval 8, over 4 paired seeds" in recommendation(curve)


def test_recommendation_says_that_confidence_is_lacking_when_one_seed():
    (curve,) = curves([(4, 0.9, 0.80), (8, 0.9, 0.97)])
    assert "no confidence can be given" in recommendation(curve)
    assert curve.evidence.reason.startswith("fewer than two seeds")


def test_fits_read_validation_when_test_is_flat():
    curve = seeded_curve({4: 0.10, 8: 0.06, 16: 0.04, 32: 0.03})
    assert curve.evidence.excess_risk.scale > 0.2
    assert curve.evidence.trend.p_value < 0.001


def test_ranks_without_a_score_are_left_out_of_the_fits_when_missing():
    trials = [completed(make_spec("lora", 0, rank=rank), 0.9, 0.9) for rank in (4, 8, 16, 32)]
    trials.append(completed(make_spec("lora", 0, rank=64), 0.9, None))
    (curve,) = rank_curves(group_conditions(make_study(trials)))
    assert curve.evidence.ranks == (4, 8, 16, 32)
    assert curve.evidence.saturating.ranks == (4.0, 8.0, 16.0, 32.0)
