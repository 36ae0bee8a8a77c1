"""VTAB-1k: RESISC45."""

from __future__ import annotations

from benchmark.datasets.reading.vtab import COUNTED_BY, vtab_task

DATASET = vtab_task(
    "vtab_resisc45",
    "RESISC45",
    task="resisc45",
    num_classes=45,
    num_test_images=6_300,
    source="Cheng et al. (2017)",
    licence="none stated by the publisher",
    counts_source=f"{COUNTED_BY}, resisc45_test.py",
)
