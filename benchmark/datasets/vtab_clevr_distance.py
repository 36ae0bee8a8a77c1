"""VTAB-1k: CLEVR, distance of the closest object."""

from __future__ import annotations

from benchmark.datasets.reading.vtab import COUNTED_BY, vtab_task

DATASET = vtab_task(
    "vtab_clevr_distance",
    "CLEVR, distance of the closest object",
    task="clevr_dist",
    num_classes=6,
    num_test_images=15_000,
    source="Johnson et al. (2017)",
    licence="CC BY 4.0",
    counts_source=f"{COUNTED_BY}, clevr_test.py",
)
