"""Averages over data sets: over tasks, each counting once, and over groups of tasks, each group counting once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

VTAB_GROUPS = {
    "natural": ("caltech101", "cifar100", "dtd", "flowers102", "pets", "sun397", "svhn"),
    "specialised": ("patch_camelyon", "eurosat", "resisc45", "diabetic_retinopathy"),
    "structured": (
        "clevr_count",
        "clevr_distance",
        "dmlab",
        "kitti_distance",
        "dsprites_location",
        "dsprites_orientation",
        "smallnorb_azimuth",
        "smallnorb_elevation",
    ),
}
"""The 19 tasks of VTAB. Source: Zhai et al. (arXiv 1910.04867)."""

_GROUP_OF = {f"vtab_{task}": group for group, tasks in VTAB_GROUPS.items() for task in tasks}


def groups_of(datasets: Sequence[str]) -> dict[str, list[str]]:
    """Return the data sets by group, where each has one and there are several; empty otherwise."""
    groups: dict[str, list[str]] = {}
    for dataset in datasets:
        groups.setdefault(_GROUP_OF.get(dataset, ""), []).append(dataset)
    return groups if len(groups) > 1 and "" not in groups else {}


def seed_averages(scores: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """Return, by seed, the mean over tasks; a seed that one task lacks has none.

    Args:
        scores: Score by seed, one mapping a task.
    """
    if not scores:
        return {}
    shared = sorted(set.intersection(*(set(task) for task in scores)))
    return {seed: sum(task[seed] for task in scores) / len(scores) for seed in shared}
