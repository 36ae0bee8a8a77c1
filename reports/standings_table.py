"""The report's table over data sets, and the same as JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reports.formatting import ABSENT, p_value, percent, percent_interval, points, points_interval
from reports.result_tables import as_raw
from reports.standings import AgainstBest, Group, Standing, num_tests
from reports.statistics import SIGNIFICANCE, pairs_needed
from reports.statistics.pooling import Pooled
from reports.tables import Cell, Column, Table

CAPTION = (
    "Test top-1, every pair of backbone and data set weighing the same. Best: the highest mean on validation; the rest "
    "are compared with it on test. Intervals: Student's t over paired seeds, the bootstrap stratified over data sets "
    "from 10 seeds up; P(best wins): probability that one of its runs beats one of the row's, Newcombe's score "
    "interval. p: permutation test over the paired seeds of all data sets, Holm-corrected over this table. Bold: the "
    "best, where it beats every other of its group with a corrected p below 0.05."
)


def standings_table(groups: Sequence[Group]) -> Table:
    """Return a row a method and group; no row where the study has one data set."""
    columns = (
        Column("over", "Over"),
        Column("num_settings", "Pairs", True),
        Column("condition", "Condition"),
        Column("test_top1_mean", "Mean, %", True),
        Column("test_interval_95", "Mean, 95 %", True),
        Column("interquartile_mean", "Interquartile mean, %", True),
        Column("interquartile_interval_95", "Interquartile, 95 %", True),
        Column("difference_mean", "Best − this, points", True),
        Column("difference_interval_95", "Difference, 95 %", True),
        Column("improvement", "P(best wins), %", True),
        Column("p_value_holm", "p, Holm", True),
    )
    total = num_tests(groups)
    rows = tuple(
        _row(group, index, standing, total) for group in groups for index, standing in enumerate(group.standings)
    )
    return Table("standings", "Over data sets", CAPTION, columns, rows)


def _row(group: Group, index: int, standing: Standing, total: int) -> tuple[Cell, ...]:
    runs, is_best = standing.run_ids, index == group.best and group.is_clear
    return (
        Cell(group.name),
        Cell(str(group.num_settings), group.num_settings),
        Cell(standing.label),
        Cell(percent(standing.test.mean), standing.test.mean, runs, standing.test.reason, is_best=is_best),
        _interval(standing.test, runs),
        Cell(percent(standing.interquartile.mean), standing.interquartile.mean, runs),
        _interval(standing.interquartile, runs),
        *_against_cells(group, index, standing.against_best, runs, total),
    )


def _interval(pooled: Pooled, runs: tuple[str, ...]) -> Cell:
    return Cell(percent_interval(pooled.interval), as_raw(pooled.interval), runs, pooled.reason)


def _against_cells(
    group: Group, index: int, against: AgainstBest | None, runs: tuple[str, ...], total: int
) -> tuple[Cell, ...]:
    if against is None:
        reason = "the best on validation" if index == group.best else "no method has a validation score everywhere"
        return tuple(Cell("best" if index == group.best else ABSENT, reason=reason) for _ in range(4))
    mean, share = against.difference, against.improvement
    improvement = ABSENT if share is None else f"{percent(share)} {percent_interval(against.improvement_interval)}"
    return (
        Cell(points(mean.mean), mean.mean, runs, mean.reason),
        Cell(points_interval(mean.interval), as_raw(mean.interval), runs, mean.reason),
        Cell(improvement, share, runs),
        Cell(_test_text(group, against, total), against.p_value_holm, runs),
    )


def _test_text(group: Group, against: AgainstBest, total: int) -> str:
    """Return the corrected p-value, or how many seeds it takes for the test to reach 5 % in this table at all."""
    if against.test is None:
        return ABSENT
    if total * against.test.smallest_p_value >= SIGNIFICANCE:
        return f"too few seeds (needs {seeds_to_reach(total, group.num_settings)})"
    return p_value(against.p_value_holm)


def seeds_to_reach(total: int, num_settings: int) -> int:
    """Return the fewest seeds a data set with which the first of so many tests can reach 5 %."""
    return -(-pairs_needed(total) // num_settings)


def standings_json(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Return the table as JSON values; accuracies and differences are fractions."""
    total = num_tests(groups)
    return [
        {
            "over": group.name,
            "num_settings": group.num_settings,
            "best": None if group.best is None else group.standings[group.best].label,
            "chosen_on": "validation",
            "is_clear": group.is_clear,
            "num_tests": total,
            "standings": [_standing_json(standing) for standing in group.standings],
            "reason": None if group.best is not None else "best: no method has a validation score everywhere",
        }
        for group in groups
    ]


def _standing_json(standing: Standing) -> dict[str, Any]:
    against, test = standing.against_best, standing.against_best.test if standing.against_best else None
    return {
        "label": standing.label,
        "conditions": [condition.id for condition in standing.conditions],
        "test": _pooled_json(standing.test),
        "interquartile": _pooled_json(standing.interquartile),
        "validation_top1_mean": standing.validation_mean,
        "best_minus_this": None if against is None else _pooled_json(against.difference),
        "probability_best_wins": against.improvement if against else None,
        "probability_interval_95": list(against.improvement_interval)
        if against and against.improvement_interval
        else None,
        "sign_flip_p_value": test.p_value if test else None,
        "sign_flip_smallest_p_value": test.smallest_p_value if test else None,
        "sign_flip_is_exact": test.is_exact if test else None,
        "num_pairs": test.num_pairs if test else 0,
        "p_value_holm": against.p_value_holm if against else None,
        "reason": None if against else "it is the best, or none is",
    }


def _pooled_json(pooled: Pooled) -> dict[str, Any]:
    interval = list(pooled.interval) if pooled.interval else None
    return {
        "mean": pooled.mean,
        "interval_95": interval,
        "interval_method": pooled.method,
        "fewest_seeds": pooled.num_seeds,
        "reason": pooled.reason,
    }
