"""Which training image is held out for validation: rules without a seed, and the released code's rule with one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
DEFAULT_VALIDATION_FRACTION = 0.1
TEST_FRACTION_OF_UNSPLIT = 0.2
PAPER_VALIDATION_FRACTION = 0.1


def share(fraction: float, count: int) -> int:
    """Return a fraction of a count, rounded half up; the decimal digits of the fraction are taken as exact."""
    return int(Fraction(str(fraction)) * count + Fraction(1, 2))


def split_counts(published: Mapping[str, int], validation_fraction: float) -> dict[Split, int]:
    """Return the images of each split that the fixed rule gives.

    Args:
        published: Images of `train` and `test`, perhaps `validation`; or of `all` for a set published unsplit.
        validation_fraction: Share of the training images held out where no validation images are published.
    """
    train, test = published.get("train", 0), published.get("test", 0)
    if "all" in published:
        test = share(TEST_FRACTION_OF_UNSPLIT, published["all"])
        train = published["all"] - test
    if "validation" in published:
        return {"train": train, "validation": published["validation"], "test": test}
    held_out = share(validation_fraction, train)
    return {"train": train - held_out, "validation": held_out, "test": test}


def paper_counts(published: Mapping[str, int]) -> dict[Split, int]:
    """Return the images of each split that the released code's rule gives."""
    train = published["train"] + published.get("validation", 0)
    held_out = int(train * PAPER_VALIDATION_FRACTION)
    return {"train": train - held_out, "validation": held_out, "test": published["test"]}


def hold_out(
    identities: Sequence[str] | NDArray[np.str_],
    labels: NDArray[np.int64],
    fraction: float,
    purpose: Literal["validation", "test"],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Choose a stratified share of images by the hash of their identities: no seed, the same on every machine.

    Args:
        identities: Names of the images [N].
        labels: Their classes, int64 [N].
        fraction: Share to hold out; the total is exactly this share of N, rounded half up.
        purpose: Enters the hash, so that a test and a validation share are drawn apart.

    Returns:
        Rows kept and rows held out, each in ascending order.
    """
    classes, counts = np.unique(labels, return_counts=True)
    quotas = _quotas(counts.tolist(), fraction)
    ranks = np.array([hashlib.sha256(f"{purpose}/{identity}".encode()).hexdigest() for identity in identities])
    held_out = np.zeros(len(labels), dtype=bool)
    for label, quota in zip(classes, quotas, strict=True):
        rows = np.flatnonzero(labels == label)
        held_out[rows[np.argsort(ranks[rows], kind="stable")[:quota]]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _quotas(counts: Sequence[int], fraction: float) -> list[int]:
    """Share the total out over the classes by largest remainders; a class keeps at least one image."""
    exact = [Fraction(str(fraction)) * count for count in counts]
    quotas = [int(value) for value in exact]
    missing = share(fraction, sum(counts)) - sum(quotas)
    by_remainder = sorted(range(len(counts)), key=lambda index: (quotas[index] - exact[index], index))
    open_classes = [index for index in by_remainder if quotas[index] + 1 < counts[index]]
    for index in open_classes[:missing]:
        quotas[index] += 1
    return quotas


def paper_split(num_images: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Choose the validation images as the released code does: by the run's seed, not stratified.

    Args:
        num_images: All training images; a published validation part is counted among them.
        seed: The run's seed.

    Returns:
        Rows for training and rows for validation, in the released order.

    Source: AdapterTune's released code, `make_split_indices`: a permutation by `torch.randperm`, its head held out.
    """
    import torch

    order = torch.randperm(num_images, generator=torch.Generator().manual_seed(seed)).numpy()
    held_out = int(num_images * PAPER_VALIDATION_FRACTION)
    return order[held_out:], order[:held_out]
