"""VTAB-1k: small NORB, elevation."""

from __future__ import annotations

from benchmark.datasets.reading.vtab import COUNTED_BY, vtab_task

DATASET = vtab_task(
    "vtab_smallnorb_elevation",
    "small NORB, elevation",
    task="smallnorb_ele",
    num_classes=9,
    num_test_images=12_150,
    source="LeCun et al. (2004)",
    licence="research use only, says the publisher",
    counts_source=f"{COUNTED_BY}, smallnorb_test.py",
)
