from __future__ import annotations

import numpy as np
import pytest

from benchmark.datasets.reading.splitting import hold_out, paper_counts, paper_split, split_counts


def identities_of(labels: np.ndarray) -> list[str]:
    return [f"train/{row:05d}" for row in range(len(labels))]


def test_every_class_gives_the_same_share_when_classes_are_equal() -> None:
    labels = np.repeat(np.arange(5), 20)
    kept, held_out = hold_out(identities_of(labels), labels, 0.1, "validation")
    assert np.bincount(labels[held_out]).tolist() == [2] * 5
    assert sorted([*kept, *held_out]) == list(range(100))


def test_total_is_the_exact_share_when_classes_are_unequal() -> None:
    labels = np.repeat(np.arange(4), [3, 14, 27, 33])
    _, held_out = hold_out(identities_of(labels), labels, 0.1, "validation")
    # 77 images, a tenth rounded half up is 8; exact quotas 0.3, 1.4, 2.7, 3.3, largest remainders get what is missing.
    assert np.bincount(labels[held_out], minlength=4).tolist() == [0, 2, 3, 3]


def test_the_same_images_are_held_out_when_their_order_changes() -> None:
    labels = np.repeat(np.arange(3), 10)
    names = np.array(identities_of(labels))
    order = np.random.default_rng(0).permutation(30)
    _, first = hold_out(names, labels, 0.2, "validation")
    _, second = hold_out(names[order], labels[order], 0.2, "validation")
    assert set(names[first]) == set(names[order][second])


def test_a_class_keeps_an_image_when_the_share_would_take_all() -> None:
    labels = np.array([0, 1, 1, 1, 1])
    kept, _ = hold_out(identities_of(labels), labels, 0.5, "validation")
    assert 0 in labels[kept]


@pytest.mark.parametrize(
    ("published", "expected"),
    [
        # CIFAR-10 and Food-101 (torchvision), SVHN (TFDS), Flowers-102 with its own validation images (TFDS).
        ({"train": 50_000, "test": 10_000}, {"train": 45_000, "validation": 5_000, "test": 10_000}),
        ({"train": 73_257, "test": 26_032}, {"train": 65_931, "validation": 7_326, "test": 26_032}),
        (
            {"train": 1_020, "validation": 1_020, "test": 6_149},
            {"train": 1_020, "validation": 1_020, "test": 6_149},
        ),
        # ImageNet-R is published unsplit: a fifth is the test share, a tenth of the rest validation.
        ({"all": 30_000}, {"train": 21_600, "validation": 2_400, "test": 6_000}),
    ],
)
def test_counts_follow_from_published_ones_when_the_split_is_fixed(
    published: dict[str, int], expected: dict[str, int]
) -> None:
    assert split_counts(published, 0.1) == expected


def test_paper_split_is_the_released_permutation_when_given_a_seed() -> None:
    # torch.randperm(20, generator=torch.Generator().manual_seed(0)), the first int(20 * 0.1) = 2 held out.
    train, validation = paper_split(20, seed=0)
    assert (len(train), len(validation)) == (18, 2)
    assert sorted([*train, *validation]) == list(range(20))
    assert paper_split(20, seed=1)[1].tolist() != validation.tolist()
    assert paper_counts({"train": 20, "test": 5}) == {"train": 18, "validation": 2, "test": 5}
