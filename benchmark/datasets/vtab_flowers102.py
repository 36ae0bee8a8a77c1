"""VTAB-1k: Flowers-102."""

from __future__ import annotations

from benchmark.datasets.reading.vtab import COUNTED_BY, vtab_task

DATASET = vtab_task(
    "vtab_flowers102",
    "Flowers-102",
    task="oxford_flowers102",
    num_classes=102,
    num_test_images=6_149,
    source="Nilsback & Zisserman (2008)",
    licence="none stated by the publisher",
    counts_source=f"{COUNTED_BY}, oxford_flowers102_test.py",
)
