"""VTAB-1k: dSprites, horizontal position."""

from __future__ import annotations

from benchmark.datasets.reading.vtab import COUNTED_BY, vtab_task

DATASET = vtab_task(
    "vtab_dsprites_location",
    "dSprites, horizontal position",
    task="dsprites_loc",
    num_classes=16,
    num_test_images=73_728,
    source="Matthey et al. (2017)",
    licence="Apache-2.0",
    counts_source=f"{COUNTED_BY}, dsprites_test.py",
    flips_keep_labels=False,
)
