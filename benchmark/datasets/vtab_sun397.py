"""VTAB-1k: SUN397."""

from __future__ import annotations

from benchmark.datasets.reading.vtab import COUNTED_BY, vtab_task

DATASET = vtab_task(
    "vtab_sun397",
    "SUN397",
    task="sun397",
    num_classes=397,
    num_test_images=21_750,
    source="Xiao et al. (2010)",
    licence="none stated by the publisher",
    counts_source=f"{COUNTED_BY}, sun397_test.py",
)
