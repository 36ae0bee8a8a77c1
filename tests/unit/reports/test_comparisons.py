from reports.comparisons import compare_all
from reports.conditions import group_conditions
from tests.unit.reports.synthetic import completed, make_spec, make_study


def conditions_of(*specs):
    trials = [completed(spec | {"seed": seed}, 0.5 + seed * index / 100) for seed in range(3) for index, spec in specs]
    return group_conditions(make_study(trials))


def test_every_condition_meets_both_baselines_once_when_both_are_there():
    conditions = conditions_of(
        (1, make_spec("head_only", 0)), (2, make_spec("lora", 0, rank=1)), (4, make_spec("full_finetune", 0))
    )
    rows = [(row.a.method, row.b.method) for row in compare_all(conditions, [])]
    assert rows == [("lora", "head_only"), ("full_finetune", "head_only"), ("lora", "full_finetune")]


def test_claim_keeps_its_direction_when_a_baseline_pair_is_the_same():
    head, lora = conditions_of((1, make_spec("head_only", 0)), (2, make_spec("lora", 0, rank=1)))
    (row,) = compare_all([head, lora], [(head, lora, "worse")])
    assert (row.a, row.b, row.purpose) == (head, lora, "claim worse")


def test_other_data_sets_do_not_meet_when_compared():
    conditions = conditions_of((1, make_spec("head_only", 0)), (2, make_spec("lora", 0, dataset="letters", rank=1)))
    assert compare_all(conditions, []) == []


def test_equally_trained_baseline_is_taken_when_several_are_there():
    training = {"learning_rate": 0.5}
    conditions = conditions_of(
        (1, make_spec("head_only", 0)),
        (2, make_spec("head_only", 0, training=training)),
        (4, make_spec("lora", 0, training=training, rank=1)),
    )
    (row,) = compare_all(conditions, [])
    assert row.b.spec["training"]["learning_rate"] == 0.5


def test_holm_is_over_the_table_when_there_are_two_rows():
    conditions = conditions_of(
        (1, make_spec("head_only", 0)), (2, make_spec("lora", 0, rank=1)), (7, make_spec("bitfit", 0))
    )
    first, second = compare_all(conditions, [])
    assert first.p_value_holm >= first.difference.p_value
    assert max(first.p_value_holm, second.p_value_holm) > max(first.difference.p_value, second.difference.p_value) / 2
