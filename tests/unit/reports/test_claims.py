import subprocess
import sys

import pytest
from pydantic import ValidationError
from scipy.stats import ttest_1samp

from reports.claims import ClaimSpec, check_claims, match, matched_pairs
from reports.conditions import group_conditions
from reports.evidence import evidence
from reports.verdicts import judge, judge_all
from tests.unit.reports.synthetic import completed, failed, make_spec, make_study, plan

HEAD = {"method": "head_only"}
RANK_16 = {"method": "adaptertune", "rank": 16}


def make_claim(a=None, b=None, **fields):
    return ClaimSpec(id="claim", text="a beats b", a=a or RANK_16, b=b or HEAD, **fields)


def make_plan(datasets=("digits",)):
    specs = []
    for dataset in datasets:
        for seed in range(2):
            specs.append(make_spec("head_only", seed, dataset=dataset))
            specs += [
                make_spec("adaptertune", seed, dataset=dataset, rank=rank, placement="all", init=init)
                for rank, init in ((16, "zero"), (8, "zero"), (8, "small"))
            ]
    return [plan(spec) for spec in specs]


def judged(differences, margin=0.0, num_planned=None):
    specs = [
        (make_spec("adaptertune", seed, rank=16), make_spec("head_only", seed))
        for seed in range(num_planned or len(differences))
    ]
    trials = []
    for (a, b), difference in zip(specs, differences, strict=False):
        trials += [completed(a, 0.5 + difference), completed(b, 0.5)]
    study = make_study(trials, [spec for pair in specs for spec in pair])
    a, b = group_conditions(study)
    return judge(make_claim(margin=margin), [(a, b)])


def test_no_problem_when_each_side_matches_one_condition():
    assert check_claims([make_claim()], make_plan(("digits", "letters"))) == []


def test_pairs_cover_every_setting_when_both_sides_are_planned():
    assert len(matched_pairs(make_claim(), make_plan(("digits", "letters")))) == 2


def test_nearest_field_is_suggested_when_selector_has_a_typo():
    (problem,) = check_claims([make_claim(a={"method": "adaptertune", "rnak": 16})], make_plan())
    assert problem.where == "claims[0].a.rnak"
    assert "'rank'" in problem.hint


def test_values_are_listed_when_selector_matches_nothing():
    (problem,) = check_claims([make_claim(a={"method": "adaptertune", "rank": 17})], make_plan())
    assert problem.where == "claims[0].a"
    assert "rank: 16, 8" in problem.hint


def test_ambiguity_is_a_problem_when_init_is_not_named():
    (problem,) = check_claims([make_claim(a={"method": "adaptertune", "rank": 8})], make_plan())
    assert "it matches 2: adaptertune init=zero, adaptertune init=small" in problem.rule
    assert problem.hint == "Name init too."


def test_problem_when_sides_share_no_setting():
    claim = make_claim(a=RANK_16 | {"dataset": "digits"}, b=HEAD | {"dataset": "letters"})
    (problem,) = check_claims([claim], make_plan(("digits", "letters")))
    assert "one same backbone and data set" in problem.rule


def test_problem_when_both_sides_are_one_condition():
    (problem,) = check_claims([make_claim(a=RANK_16, b=RANK_16 | {"init": "zero"})], make_plan())
    assert "different conditions" in problem.rule


def test_problem_when_two_claims_have_one_id():
    (problem,) = check_claims([make_claim(), make_claim()], make_plan())
    assert problem.where == "claims[1].id"


def test_training_field_selects_when_named():
    specs = [make_spec("lora", 0, training={"learning_rate": rate}, rank=4) for rate in (1e-3, 1e-4)]
    matches = match({"learning_rate": 0.0001}, [plan(spec) for spec in specs])
    assert list(matches.values()) == [[plan(specs[1]).condition_id]]


def test_true_does_not_match_one_when_selecting():
    assert match({"rank": True}, [plan(make_spec("lora", 0, rank=1))]) == {}


def test_unknown_key_is_refused_when_a_claim_is_read():
    with pytest.raises(ValidationError, match="marign"):
        ClaimSpec.model_validate({"id": "x", "text": "x", "a": HEAD, "b": RANK_16, "marign": 0.1})


@pytest.mark.parametrize(
    ("differences", "margin", "verdict"),
    [
        ([0.10, 0.11, 0.12], 0.0, "confirmed"),
        ([0.10, 0.11, 0.12], 0.2, "contradicted"),
        ([0.10, -0.11, 0.12], 0.0, "undecided"),
        ([-0.10, -0.11, -0.12], 0.0, "contradicted"),
        ([0.10], 0.0, "undecided"),
    ],
)
def test_verdict_follows_the_interval_when_judged(differences, margin, verdict):
    assert judged(differences, margin).name == verdict


def test_one_contradicted_pair_decides_when_others_confirm():
    def pair(dataset, sign):
        specs = [(make_spec("lora", seed, dataset, rank=1), make_spec("head_only", seed, dataset)) for seed in range(3)]
        trials = []
        for seed, (a, b) in enumerate(specs):
            trials += [completed(a, 0.5 + sign * (0.1 + seed / 100)), completed(b, 0.5)]
        return tuple(group_conditions(make_study(trials)))

    assert judge(make_claim(), [pair("digits", 1), pair("letters", -1)]).name == "contradicted"
    assert judge(make_claim(), [pair("digits", 1), pair("letters", 1)]).name == "confirmed"


def test_number_of_seeds_is_suggested_when_undecided():
    assert judged([0.10, -0.01, 0.05]).seeds_needed[0] > 3
    assert judged([0.10, 0.11, 0.12]).seeds_needed == (None,)


def test_missing_seeds_are_cautioned_when_a_verdict_rests_on_fewer():
    verdict = judged([0.10, 0.11, 0.12], num_planned=5)
    assert verdict.name == "confirmed"
    assert "seed 3" in verdict.caution
    assert "seed 4" in verdict.caution


def test_evidence_holds_runs_and_seeds_when_judged():
    found = evidence(judged([0.10, 0.11, 0.12]))
    assert found["seeds"] == [0, 1, 2]
    assert found["num_pairs"] == 3
    assert len(found["run_ids"]) == 6
    assert found["difference_mean"] == pytest.approx(0.11)


def test_claim_is_undecided_when_one_side_failed():
    a, b = completed(make_spec("lora", 0, rank=1), 0.9), failed(make_spec("head_only", 0))
    verdict = judge(make_claim(), [tuple(group_conditions(make_study([a, b])))])
    assert verdict.name == "undecided"
    assert "no seed completed on both sides" in verdict.reason


def test_import_stays_light_when_claims_are_read():
    code = (
        "import sys, reports.claims; print([n for n in ('numpy', 'scipy', 'matplotlib', 'torch') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_p_values_are_corrected_over_all_claims_when_judged_together():
    def sides(rank, differences):
        specs = [(make_spec("lora", seed, rank=rank), make_spec("head_only", seed)) for seed in range(3)]
        trials = []
        for (a, b), difference in zip(specs, differences, strict=True):
            trials += [completed(a, 0.5 + difference), completed(b, 0.5)]
        return tuple(group_conditions(make_study(trials)))

    claims = [
        (make_claim(), [sides(1, [0.10, 0.11, 0.12])]),
        (make_claim(margin=0.05), [sides(2, [0.10, 0.12, 0.20])]),
    ]
    first, second = judge_all(claims)
    assert first.p_values[0] == pytest.approx(ttest_1samp([0.10, 0.11, 0.12], 0.0).pvalue)
    assert first.p_values_holm[0] == pytest.approx(2 * first.p_values[0])
    assert second.p_values[0] == pytest.approx(ttest_1samp([0.10, 0.12, 0.20], 0.05).pvalue)
    assert second.p_values_holm == second.p_values


def many_pairs(differences_by_pair, **fields):
    """One data set a list of seed differences."""
    pairs = []
    for number, differences in enumerate(differences_by_pair):
        trials = []
        for seed, difference in enumerate(differences):
            a, b = (make_spec(method, seed, f"vit_{number}") for method in ("adaptertune", "head_only"))
            trials += [completed(a, 0.5 + difference, parameters=900), completed(b, 0.5, parameters=9000)]
        pairs.append(tuple(group_conditions(make_study(trials))))
    return judge(make_claim(**fields), pairs)


UP, DOWN, OPEN = [0.10, 0.11, 0.12], [-0.10, -0.11, -0.12], [0.10, -0.11, 0.06]


def test_every_pair_has_its_own_verdict_when_a_claim_covers_many():
    verdict = many_pairs([UP, DOWN, OPEN])
    assert verdict.pair_names == ("confirmed", "contradicted", "undecided")
    assert "of 3 pairs 1 confirmed, 1 contradicted, 1 undecided; the claim asks for 3" in verdict.summary


def test_one_pair_below_does_not_contradict_when_chance_among_many_would_give_it():
    # t = -4.9 with 2 degrees of freedom: p = 0.039 alone, 0.39 among ten.
    just_below = [-0.05, -0.07, -0.10]
    assert many_pairs([just_below]).name == "contradicted"
    verdict = many_pairs([just_below, *[OPEN] * 9])
    assert verdict.name == "undecided"
    assert verdict.pair_names[0] == "contradicted"


@pytest.mark.parametrize(
    ("pairs", "verdict"),
    [([UP, UP, DOWN], "confirmed"), ([UP, DOWN, DOWN], "contradicted"), ([UP, OPEN, DOWN], "undecided")],
)
def test_share_of_pairs_decides_when_two_of_three_are_claimed(pairs, verdict):
    assert many_pairs(pairs, at_least_fraction=0.666).name == verdict


def test_mean_decides_when_a_claim_is_about_the_mean():
    # Means over the pairs by seed: 0.05, 0.055, 0.06, whose interval is 0.055 ± 4.303 · 0.005 / sqrt(3).
    verdict = many_pairs([UP, [0.0, 0.0, 0.0]], over="mean", published=0.149)
    assert verdict.name == "confirmed"
    assert verdict.mean.interval == pytest.approx((0.055 - 0.012421, 0.055 + 0.012421), abs=1e-6)
    assert "published (cited): +14.90, outside the interval" in verdict.summary
    assert many_pairs([UP, DOWN], over="mean").name == "undecided"


def test_pooled_test_states_what_it_can_reach_when_two_pairs_of_three_seeds():
    found = evidence(many_pairs([UP, UP]))["mean_over_settings"]
    assert found["sign_flip_p_value"] == found["sign_flip_smallest_p_value"] == 2 / 2**6
    assert found["sign_flip_is_exact"]


def test_parameters_decide_when_a_claim_is_about_them():
    verdict = many_pairs([OPEN], parameter_share_below=0.11)
    assert (verdict.name, verdict.parameter_share) == ("confirmed", pytest.approx(0.1))
    assert "a trains 10.00 % of b's parameters" in verdict.summary
    assert many_pairs([OPEN], parameter_share_below=0.09).name == "contradicted"


def test_more_seeds_are_counted_from_those_there_when_undecided():
    verdict = judged([0.10, -0.01, 0.05])
    assert verdict.more_seeds_needed == verdict.seeds_needed[0] - 3
    assert f"about {verdict.more_seeds_needed} more seeds would decide it" in verdict.reason
    assert judged([0.10]).more_seeds_needed is None


@pytest.mark.parametrize(
    "fields",
    [{"over": "mean", "at_least_fraction": 0.5}, {"parameter_share_below": 0.1, "margin": 0.1}],
)
def test_claim_is_refused_when_its_kind_does_not_read_a_field(fields):
    with pytest.raises(ValidationError, match="for"):
        make_claim(**fields)
