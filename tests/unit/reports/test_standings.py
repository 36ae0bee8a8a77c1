import numpy as np
import pytest
from scipy import stats

from reports.conditions import group_conditions
from reports.standings import num_tests, standings_of
from reports.standings_table import seeds_to_reach, standings_json, standings_table
from tests.unit.reports.synthetic import completed, make_spec, make_study

DATASETS = ("digits", "letters", "shapes", "signs")


def groups_of(scores, datasets=DATASETS, num_seeds=3, backbones=("vit_nano",), left_out=()):
    """Scores are {method: (test, validation)}; a seed adds a thousandth, a data set two."""
    trials = [
        completed(
            make_spec(method, seed, backbone, dataset),
            test + seed / 1000 * (1 + (position + len(method)) % 3) + position / 500,
            validation,
        )
        for backbone in backbones
        for position, dataset in enumerate(datasets)
        for method, (test, validation) in scores.items()
        for seed in range(num_seeds)
        if (method, dataset) not in left_out
    ]
    return standings_of(group_conditions(make_study(trials)))


CLEAR = {"lora": (0.80, 0.9), "head_only": (0.60, 0.7), "bitfit": (0.70, 0.8)}


def test_no_group_when_there_is_one_data_set():
    assert groups_of(CLEAR, datasets=("digits",)) == []


def test_best_is_chosen_on_validation_when_test_disagrees():
    (group,) = groups_of({"lora": (0.60, 0.9), "bitfit": (0.80, 0.8)})
    assert group.standings[group.best].conditions[0].method == "lora"
    assert not group.is_clear


def test_best_is_bold_when_it_beats_every_other_after_correction():
    # 12 pairs: 2 / 2^12, Holm-corrected over two tests.
    (group,) = groups_of(CLEAR)
    assert group.is_clear
    assert [one.against_best.p_value_holm for one in group.standings[1:]] == pytest.approx([4 / 2**12, 4 / 2**12])
    cells = [row[3] for row in standings_table([group]).rows]
    assert [cell.is_best for cell in cells] == [True, False, False]


def test_nothing_is_bold_when_too_few_seeds_can_reach_five_percent():
    # Two data sets of two seeds: 4 pairs, 2 / 2^4 = 0.125 at least.
    groups = groups_of(CLEAR, datasets=DATASETS[:2], num_seeds=2)
    table = standings_table(groups)
    assert not any(cell.is_best for row in table.rows for cell in row)
    # Two tests: 7 pairs give 2 · 2 / 2^7 = 0.031, so 4 seeds on each of two data sets.
    assert [row[-1].text for row in table.rows] == ["best", *["too few seeds (needs 4)"] * 2]
    assert seeds_to_reach(num_tests(groups), 2) == 4


def test_difference_equals_scipy_when_seeds_are_averaged_over_data_sets():
    (group,) = groups_of(CLEAR)
    best, other = (
        np.array([list(one.scores("test").values()) for one in standing.conditions]) for standing in group.standings[:2]
    )
    by_seed = (best - other).mean(axis=0)
    found = group.standings[1].against_best.difference
    expected = stats.t.interval(0.95, 2, by_seed.mean(), stats.sem(by_seed))
    assert (found.mean, found.interval) == (pytest.approx(by_seed.mean()), pytest.approx(expected))


def test_probability_is_one_with_an_interval_when_the_best_always_wins():
    (group,) = groups_of(CLEAR)
    against = group.standings[1].against_best
    assert against.improvement == 1.0
    assert 0.7 < against.improvement_interval[0] < 1.0


def test_bootstrap_gives_the_intervals_when_ten_seeds():
    (group,) = groups_of(CLEAR, num_seeds=10)
    assert "bootstrap" in group.standings[0].interquartile.method
    assert group.standings[0].interquartile.interval is not None


def test_method_is_left_out_of_a_group_when_it_lacks_a_data_set():
    (group,) = groups_of(CLEAR, left_out={("bitfit", "signs")})
    assert [one.conditions[0].method for one in group.standings] == ["lora", "head_only"]


def test_every_backbone_and_all_have_a_group_when_there_are_two():
    groups = groups_of(CLEAR, backbones=("vit_nano", "vit_micro"))
    assert [(group.name, group.num_settings) for group in groups] == [
        ("vit_nano", 4),
        ("vit_micro", 4),
        ("all 2 backbones", 8),
    ]


def test_summary_names_the_test_and_its_reach_when_written():
    (group,) = standings_json(groups_of(CLEAR))
    (best, other, _) = group["standings"]
    assert (group["best"], group["chosen_on"], group["num_tests"]) == ("LoRA", "validation", 2)
    assert best["best_minus_this"] is None
    assert other["sign_flip_smallest_p_value"] == 2 / 2**12
    assert other["num_pairs"] == 12
