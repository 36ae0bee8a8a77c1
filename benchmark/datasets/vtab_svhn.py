"""VTAB-1k: SVHN."""

from __future__ import annotations

from benchmark.datasets.reading.vtab import COUNTED_BY, vtab_task

DATASET = vtab_task(
    "vtab_svhn",
    "SVHN",
    task="svhn",
    num_classes=10,
    num_test_images=26_032,
    source="Netzer et al. (2011)",
    licence="non-commercial use only, says the publisher",
    counts_source=f"{COUNTED_BY}, svhn_test.py",
    flips_keep_labels=False,
)
