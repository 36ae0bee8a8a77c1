"""Guards what a report says of budgets and costs: each figure where it is known, a dash with its reason where not."""

from __future__ import annotations

from typing import Any

import pytest

from benchmark.tracking import TrackedTrial
from reports.analysis import analyse
from reports.formatting import ABSENT, energy, flops
from reports.page import report_tables
from reports.tables import Table
from tests.unit.reports.synthetic import completed, make_spec, make_study, no_curves


def _matched(name: str, seed: int, match: dict[str, Any] | None) -> TrackedTrial:
    spec = make_spec(name, seed)
    return completed({**spec, "method": {**spec["method"], "match": match}}, 0.9 + seed / 100, 0.9)


def _tables(trials: list[TrackedTrial]) -> dict[str, Table]:
    return report_tables(analyse(make_study(trials), no_curves), [])


def _column(table: Table, key: str) -> list[str]:
    index = [column.key for column in table.columns].index(key)
    return [row[index].text for row in table.rows]


@pytest.mark.parametrize(
    ("match", "text"),
    [
        (
            {"parameters": 20_000, "option": "rank", "achieved_parameters": 19_734},
            "19\u2009734 of 20\u2009000 parameters",
        ),
        (
            {"training_flops": 9_000_000, "option": "rank", "achieved_parameters": 1, "achieved": 8_900_000},
            "8.9 M of 9 M FLOPs",
        ),
        (
            {"memory_bytes": 10**7, "option": None, "achieved_parameters": 1, "achieved": 4_000_000},
            "4 MB of 10 MB of memory, size not chosen",
        ),
        (None, ABSENT),
    ],
)
def test_results_name_the_budget_and_what_was_achieved(match: dict[str, Any] | None, text: str) -> None:
    budget = {"parameters": 5, "option": "rank", "achieved_parameters": 5}
    trials = [_matched("lora", seed, match) for seed in (0, 1)] + [_matched("bitfit", 0, budget)]
    assert text in _column(_tables(trials)["results"], "match")


def test_results_have_no_budget_column_when_no_budget_was_asked_for() -> None:
    table = _tables([_matched("lora", seed, None) for seed in (0, 1)])["results"]
    assert "match" not in [column.key for column in table.columns]


def test_costs_show_operations_and_energy_where_a_trial_has_them() -> None:
    known, unknown = _matched("lora", 0, None), _matched("bitfit", 0, None)
    assert known.result.cost is not None
    figures = {"forward_flops_per_image": 4_211_456, "training_flops_per_image": None, "energy_joules": 12_345.0}
    cost = known.result.cost.model_copy(update=figures)
    table = _tables(
        [TrackedTrial(known.run_id, known.result.model_copy(update={"cost": cost})), unknown],
    )["costs"]
    assert _column(table, "forward_flops_per_image") == ["4.21 M", ABSENT]
    assert _column(table, "training_flops_per_image") == [ABSENT, ABSENT]
    assert _column(table, "energy_joules") == ["12.3 kJ", ABSENT]


def test_quantities_have_the_unit_that_reads_best() -> None:
    assert (flops(999), flops(17_500_000_000), flops(3 * 10**15)) == ("999", "17.5 G", "3 P")
    assert (energy(0.5), energy(2_500_000.0), energy(None)) == ("0.5 J", "2.5 MJ", ABSENT)
