"""VTAB-1k: Describable Textures."""

from __future__ import annotations

from benchmark.datasets.reading.vtab import COUNTED_BY, vtab_task

DATASET = vtab_task(
    "vtab_dtd",
    "Describable Textures",
    task="dtd",
    num_classes=47,
    num_test_images=1_880,
    source="Cimpoi et al. (2014)",
    licence="research use only, says the publisher",
    counts_source=f"{COUNTED_BY}, dtd_test.py",
)
