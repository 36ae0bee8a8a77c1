"""Guards how images reach the backbone, and that augmentation depends on (seed, epoch, image) alone."""

from __future__ import annotations

import pytest
import torch

from benchmark.training.images import Presentation, augment, present

HALF = (0.5, 0.5, 0.5)


def _present(pixels: torch.Tensor, size: int) -> torch.Tensor:
    return present(pixels, Presentation(size, "bicubic", HALF, HALF))


def test_pixels_span_minus_one_to_one_when_normalised_with_a_half() -> None:
    pixels = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 4, 4, 3)
    assert _present(pixels, 4).unique().tolist() == [-1.0, 1.0]


def test_shape_is_channels_first_when_resized() -> None:
    assert _present(torch.zeros(2, 8, 8, 3, dtype=torch.uint8), 16).shape == (2, 3, 16, 16)


def test_pixels_stay_in_range_when_bicubic_resizing_overshoots() -> None:
    edge = torch.zeros(1, 8, 8, 3, dtype=torch.uint8)
    edge[:, :, 4:] = 255
    assert _present(edge, 32).abs().max() <= 1.0


@pytest.mark.parametrize("augmentation", ["flip", "shift"])
def test_augmentation_is_the_same_when_the_batch_is_split(augmentation: str) -> None:
    pixels, rows = torch.randn(12, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.arange(40, 52)
    whole = augment(pixels, augmentation, seed=1, epoch=2, rows=rows)
    parts = [augment(pixels[part], augmentation, 1, 2, rows[part]) for part in (slice(0, 5), slice(5, 12))]
    assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("augmentation", ["flip", "shift"])
def test_augmentation_differs_when_the_epoch_does(augmentation: str) -> None:
    pixels, rows = torch.randn(32, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.arange(32)
    first, second = (augment(pixels, augmentation, seed=1, epoch=epoch, rows=rows) for epoch in (1, 2))
    assert not torch.equal(first, second)


def test_flip_mirrors_about_half_of_the_images_when_drawn_often() -> None:
    ramp = torch.arange(4.0).expand(1000, 3, 4, 4)
    flipped = augment(ramp, "flip", seed=0, epoch=1, rows=torch.arange(1000))[:, 0, 0, 0] == 3.0
    assert 420 < flipped.sum() < 580  # five standard deviations


def test_shift_moves_by_at_most_an_eighth_when_drawn_often() -> None:
    ramp = torch.arange(16.0).expand(200, 3, 16, 16)
    centres = augment(ramp, "shift", seed=0, epoch=1, rows=torch.arange(200))[:, 0, 8, 8]
    assert centres.unique().tolist() == [6.0, 7.0, 8.0, 9.0, 10.0]


def test_images_stay_as_they_are_when_there_is_no_augmentation() -> None:
    pixels = torch.randn(2, 3, 4, 4)
    assert augment(pixels, "none", seed=0, epoch=1, rows=torch.arange(2)) is pixels
