"""The report's table over test images: a row a claim and setting."""

from __future__ import annotations

from collections.abc import Sequence

from reports.formatting import ABSENT, p_value, points, points_interval
from reports.image_tests import ImageComparison
from reports.result_tables import PLACE, as_raw, place_cells
from reports.tables import Cell, Column, Table


def images_table(comparisons: Sequence[ImageComparison]) -> Table:
    """Return a row a claim and setting."""
    columns = (
        Column("id", "Claim"),
        *PLACE,
        Column("a", "a"),
        Column("b", "b"),
        Column("num_images", "Images", True),
        Column("difference_mean", "a − b, points", True),
        Column("interval_95", "95 % over images", True),
        Column("mcnemar_p_values", "McNemar's p by seed"),
    )
    caption = (
        "The claims' sides on the same test images. The interval is over images, the trained weights given (Bonett and "
        "Price); the exact McNemar test compares two trained models, one a seed. Neither says what other "
        "seeds would give."
    )
    rows = tuple(_row(comparison) for comparison in comparisons)
    return Table("images", "Over test images", caption, columns, rows)


def _row(comparison: ImageComparison) -> tuple[Cell, ...]:
    pair, runs, why = comparison.pair, comparison.pair.run_ids, comparison.reason
    tests = ", ".join(f"{seed}: {p_value(test.p_value)}" for seed, test in comparison.tests.items())
    num_images = next((test.num_images for test in comparison.tests.values()), None)
    return (
        Cell(comparison.claim_id),
        *place_cells(pair.a),
        Cell(pair.a.label),
        Cell(pair.b.label),
        Cell(ABSENT if num_images is None else str(num_images), num_images, runs, why),
        Cell(points(comparison.difference), comparison.difference, runs, why),
        Cell(points_interval(comparison.interval), as_raw(comparison.interval), runs, why),
        Cell(tests or ABSENT, None, runs, why),
    )
