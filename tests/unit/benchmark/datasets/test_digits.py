"""Guards the bundled digits: the same images as scikit-learn's, in a fixed stratified split."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from benchmark.datasets.contract import find_dataset
from benchmark.datasets.reading.splitting import SPLITS

SPLIT_SHA256 = "598d5eec6f27f0330a680afee705e501be526633a7081d622f07dac606b056cf"
"""Of the manifest as first shipped: another split would be another data set, under another revision."""


def test_split_is_the_shipped_one_when_read() -> None:
    assert find_dataset("digits").split_sha256 == SPLIT_SHA256


def test_every_image_is_in_one_split_when_all_are_read() -> None:
    identities = [name for split in SPLITS for name in find_dataset("digits").load(split).identities]
    assert len(identities) == len(set(identities)) == 1797


def test_counts_are_the_stated_ones_when_loaded() -> None:
    dataset = find_dataset("digits")
    assert {split: len(dataset.load(split).labels) for split in SPLITS} == dict(dataset.info.num_images)


def test_split_is_stratified_when_classes_are_counted() -> None:
    shares = np.bincount(find_dataset("digits").load("test").labels) / 360
    assert np.abs(shares - 0.1).max() < 0.005


def test_images_and_labels_equal_scikit_learns_when_compared() -> None:
    reference = load_digits()
    images = find_dataset("digits").load("train")
    rows = [int(name.removeprefix("digits-")) for name in images.identities]
    assert np.array_equal(images.labels, reference.target[rows])
    assert np.array_equal(images.pixels[..., 0], np.rint(reference.images[rows] * 255 / 16))
