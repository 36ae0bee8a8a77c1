"""The report's table of ensembles and soups, and the same as JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from reports.combinations import Combination
from reports.formatting import ABSENT, p_value, percent, percent_interval, points
from reports.result_tables import PLACE, as_raw, place_cells
from reports.statistics.images import MCNEMAR_NAME, WILSON_METHOD
from reports.tables import Cell, Column, Table

CAPTION = (
    "One model made of a condition's seeds. Logit ensemble: the mean of the seeds' stored test logits, a forward pass "
    "for each member and no further reading of the test split. Soup: the mean of the trained tensors, one forward "
    "pass; a trial of its own that chose on validation and then read the test split once. Gain: over the mean of the "
    "single seeds. p: exact McNemar test over the test images against the seed that is best on validation, "
    "Holm-corrected over this table. What other seeds would give together, one of each cannot say."
)


def combinations_table(combinations: Sequence[Combination]) -> Table:
    """Return a row a condition and way of combining its seeds."""
    columns = (
        *PLACE,
        Column("condition", "Condition"),
        Column("kind", "Combined as"),
        Column("num_members", "Seeds in it", True),
        Column("num_passes", "Passes", True),
        Column("validation_top1", "Validation, %", True),
        Column("test_top1", "Test top-1, %", True),
        Column("images_interval_95", "95 % over images", True),
        Column("gain", "Gain, points", True),
        Column("p_value_holm", "p, Holm", True),
    )
    rows = tuple(_row(one) for one in combinations)
    return Table("combinations", "Seeds combined", CAPTION, columns, rows)


def _row(one: Combination) -> tuple[Cell, ...]:
    runs, why = one.run_ids, one.reason
    members = ABSENT if one.num_members is None else f"{one.num_members} of {one.num_offered}"
    passes = ABSENT if one.num_passes is None else str(one.num_passes)
    return (
        *place_cells(one.condition),
        Cell(one.condition.label),
        Cell(one.kind),
        Cell(members, one.num_members, runs, why if one.num_members is None else None),
        Cell(passes, one.num_passes),
        Cell(percent(one.validation), one.validation, runs, why if one.validation is None else None),
        Cell(percent(one.test), one.test, runs, why if one.test is None else None),
        Cell(percent_interval(one.interval), as_raw(one.interval), runs),
        Cell(points(one.gain), one.gain, runs),
        Cell(p_value(one.p_value_holm), one.p_value_holm, runs),
    )


def combination_json(one: Combination) -> dict[str, Any]:
    """Return a combination as JSON values; accuracies are fractions."""
    return {
        "condition": one.condition.id,
        "kind": one.kind,
        "num_members": one.num_members,
        "num_offered": one.num_offered,
        "num_passes": one.num_passes,
        "validation_top1": one.validation,
        "test_top1": one.test,
        "gain_over_mean_seed": one.gain,
        "interval_95_over_images": list(one.interval) if one.interval else None,
        "interval_method": WILSON_METHOD,
        "test": MCNEMAR_NAME,
        "against_best_seed_on_validation": asdict(one.against_seed) if one.against_seed else None,
        "p_value_holm": one.p_value_holm,
        "run_ids": list(one.run_ids),
        "reason": one.reason,
    }
