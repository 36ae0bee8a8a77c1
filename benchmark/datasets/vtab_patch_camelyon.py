"""VTAB-1k: PatchCamelyon."""

from __future__ import annotations

from benchmark.datasets.reading.vtab import COUNTED_BY, vtab_task

DATASET = vtab_task(
    "vtab_patch_camelyon",
    "PatchCamelyon",
    task="patch_camelyon",
    num_classes=2,
    num_test_images=32_768,
    source="Veeling et al. (2018)",
    licence="CC0 1.0",
    counts_source=f"{COUNTED_BY}, patch_camelyon_test.py",
)
