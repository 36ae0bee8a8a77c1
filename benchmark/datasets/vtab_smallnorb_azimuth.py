"""VTAB-1k: small NORB, azimuth."""

from __future__ import annotations

from benchmark.datasets.reading.vtab import COUNTED_BY, vtab_task

DATASET = vtab_task(
    "vtab_smallnorb_azimuth",
    "small NORB, azimuth",
    task="smallnorb_azi",
    num_classes=18,
    num_test_images=12_150,
    source="LeCun et al. (2004)",
    licence="research use only, says the publisher",
    counts_source=f"{COUNTED_BY}, smallnorb_test.py",
    flips_keep_labels=False,
)
