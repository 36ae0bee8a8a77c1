"""VTAB-1k: KITTI, distance of the closest vehicle."""

from __future__ import annotations

from benchmark.datasets.reading.vtab import vtab_task

DATASET = vtab_task(
    "vtab_kitti_distance",
    "KITTI, distance of the closest vehicle",
    task="kitti",
    num_classes=4,
    num_test_images=711,
    source="Geiger et al. (2013)",
    licence="CC BY-NC-SA 3.0",
    counts_source="the TFDS catalogue, kitti 3.1.0 (VTAB's first release, on an older KITTI, had 634)",
)
