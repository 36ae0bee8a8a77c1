"""VTAB-1k: EuroSAT."""

from __future__ import annotations

from benchmark.datasets.reading.vtab import COUNTED_BY, vtab_task

DATASET = vtab_task(
    "vtab_eurosat",
    "EuroSAT",
    task="eurosat",
    num_classes=10,
    num_test_images=5_400,
    source="Helber et al. (2019)",
    licence="MIT",
    counts_source=f"{COUNTED_BY}, eurosat_test.py",
)
