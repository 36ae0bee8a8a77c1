"""VTAB-1k: DMLab frames."""

from __future__ import annotations

from benchmark.datasets.reading.vtab import COUNTED_BY, vtab_task

DATASET = vtab_task(
    "vtab_dmlab",
    "DMLab frames",
    task="dmlab",
    num_classes=6,
    num_test_images=22_735,
    source="Beattie et al. (2016), Zhai et al. (2019)",
    licence="none stated by the publisher",
    counts_source=f"{COUNTED_BY}, dmlab_test.py",
)
