"""VTAB-1k: CIFAR-100."""

from __future__ import annotations

from benchmark.datasets.reading.vtab import COUNTED_BY, vtab_task

DATASET = vtab_task(
    "vtab_cifar100",
    "CIFAR-100",
    task="cifar",
    num_classes=100,
    num_test_images=10_000,
    source="Krizhevsky (2009)",
    licence="none stated by the publisher",
    counts_source=f"{COUNTED_BY}, cifar_test.py",
)
