"""VTAB-1k: Caltech-101."""

from __future__ import annotations

from benchmark.datasets.reading.vtab import COUNTED_BY, vtab_task

DATASET = vtab_task(
    "vtab_caltech101",
    "Caltech-101",
    task="caltech101",
    num_classes=102,
    num_test_images=6_084,
    source="Fei-Fei et al. (2004)",
    licence="CC BY 4.0",
    counts_source=f"{COUNTED_BY}, caltech_test.py",
)
