"""VTAB-1k: Oxford-IIIT Pet."""

from __future__ import annotations

from benchmark.datasets.reading.vtab import COUNTED_BY, vtab_task

DATASET = vtab_task(
    "vtab_pets",
    "Oxford-IIIT Pet",
    task="oxford_iiit_pet",
    num_classes=37,
    num_test_images=3_669,
    source="Parkhi et al. (2012)",
    licence="CC BY-SA 4.0",
    counts_source=f"{COUNTED_BY}, oxford_iiit_pet_test.py",
)
