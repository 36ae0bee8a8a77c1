"""VTAB-1k: CLEVR, count of objects."""

from __future__ import annotations

from benchmark.datasets.reading.vtab import COUNTED_BY, vtab_task

DATASET = vtab_task(
    "vtab_clevr_count",
    "CLEVR, count of objects",
    task="clevr_count",
    num_classes=8,
    num_test_images=15_000,
    source="Johnson et al. (2017)",
    licence="CC BY 4.0",
    counts_source=f"{COUNTED_BY}, clevr_test.py",
)
