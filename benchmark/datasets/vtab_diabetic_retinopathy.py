"""VTAB-1k: Diabetic retinopathy."""

from __future__ import annotations

from benchmark.datasets.reading.vtab import COUNTED_BY, vtab_task

DATASET = vtab_task(
    "vtab_diabetic_retinopathy",
    "Diabetic retinopathy",
    task="diabetic_retinopathy",
    num_classes=5,
    num_test_images=42_670,
    source="Kaggle & EyePACS (2015)",
    licence="the Kaggle competition's rules",
    counts_source=f"{COUNTED_BY}, diabetic_retinopathy_test.py",
)
