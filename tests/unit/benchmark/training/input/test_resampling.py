"""Guards that crops and resizes are those of torchvision's PIL transforms.

Tolerances are in grey levels of 255. PIL rounds to 8 bits after each of its two passes, which a float computation does
not: 0.25 on average for one rounding, and at most 0.5 after the last pass plus 0.5 times the filter's gain (1.0 for
bilinear, up to 1.3 for bicubic). Where bicubic overshoots black or white both clip between the passes; PIL 13 begins
with the rows when an image shrinks, we always with the columns, so there single pixels differ by a few levels.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision.transforms as transforms
import torchvision.transforms.functional as transform
from torchvision.transforms import InterpolationMode

from benchmark.training.images import Presentation, SplitImages
from benchmark.training.input.decoded_index import open_stored
from benchmark.training.input.windows import random_crop_windows
from tests.unit.benchmark.training.input.synthetic_items import SyntheticItems, smooth_image

MODES = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}
SIZES = [(32, 32), (64, 48), (150, 200), (240, 130)]
MEAN_TOLERANCE = 0.35
ROUNDING_TOLERANCE = 1.25
CLIPPED_PIXEL_TOLERANCE = 8.0
CPU = torch.device("cpu")


def _images(interpolation: str, size: int, crop_fraction: float = 224 / 256) -> SplitImages:
    how = Presentation(size, interpolation, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), crop_fraction)
    return SplitImages(open_stored(SyntheticItems(SIZES * 4), "shapes", 256), how)


def _assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    levels = (found - expected).abs() * 255
    assert levels.mean() < MEAN_TOLERANCE
    assert (levels > ROUNDING_TOLERANCE).float().mean() < 1e-3
    assert levels.max() < CLIPPED_PIXEL_TOLERANCE


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [96, 224])
def test_evaluation_equals_torchvision_when_images_have_several_sizes(interpolation: str, size: int) -> None:
    images = _images(interpolation, size)
    resize = transforms.Resize(int(size * 256 / 224), MODES[interpolation])
    pipeline = transforms.Compose([resize, transforms.CenterCrop(size), transforms.ToTensor()])
    expected = torch.stack([pipeline(smooth_image(row, *SIZES[row])) for row in range(len(SIZES))])
    _assert_close(images.batch(torch.arange(len(SIZES)), CPU), expected)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [96, 224])
def test_training_equals_torchvision_when_it_cuts_the_same_crops(interpolation: str, size: int) -> None:
    images, rows = _images(interpolation, size), torch.arange(16)
    windows = random_crop_windows(images.stored.heights, images.stored.widths, size, 3, 1, rows)
    expected = []
    for row in range(16):
        top, left = int(windows.vertical.start[row]), int(windows.horizontal.start[row])
        height, width = int(windows.vertical.length[row]), int(windows.horizontal.length[row])
        image = smooth_image(row, *SIZES[row % len(SIZES)])
        crop = transform.resized_crop(image, top, left, height, width, [size, size], MODES[interpolation])
        expected.append(transform.to_tensor([crop, transform.hflip(crop)][int(windows.mirrored[row])]))
    _assert_close(images.training_batch(rows, "crop_flip", 3, 1, CPU), torch.stack(expected))


def test_pixels_are_normalised_when_mean_and_deviation_are_given() -> None:
    images, rows = _images("bicubic", 48), torch.arange(4)
    how = Presentation(48, "bicubic", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 224 / 256)
    expected = transform.normalize(images.batch(rows, CPU), how.mean, how.std)
    # Normalised before the weighted sums instead of after them: float rounding of values up to 2.6.
    assert torch.allclose(SplitImages(images.stored, how).batch(rows, CPU), expected, atol=2e-5)


def test_pixels_span_the_range_exactly_when_bicubic_overshoots() -> None:
    batch = _images("bicubic", 224).batch(torch.arange(16), CPU)
    assert (batch.min(), batch.max()) == (0.0, 1.0)


def test_batch_is_the_same_when_it_is_made_under_autocast() -> None:
    images, rows = _images("bicubic", 48), torch.arange(4)
    with torch.autocast("cpu", torch.bfloat16):
        found = images.batch(rows, CPU)
    assert found.dtype is torch.float32
    assert torch.equal(found, images.batch(rows, CPU))


def test_batch_is_the_same_when_images_are_prepared_or_made_on_demand() -> None:
    how = Presentation(20, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    stored = open_stored(SyntheticItems([(8, 8)] * 4), "square", 256)
    on_demand = SplitImages(stored, how)
    object.__setattr__(on_demand, "_prepared", None)
    rows = torch.arange(4)
    # torch's own antialiased interpolation against two matrix products, in float: rounding only, except that torch
    # clips once and we after each pass.
    assert np.quantile((SplitImages(stored, how).batch(rows, CPU) - on_demand.batch(rows, CPU)).abs(), 0.99) < 1e-4


@pytest.mark.parametrize("augmentation", ["none", "flip", "shift", "crop_flip"])
def test_training_batch_is_the_same_when_ranks_share_it(augmentation: str) -> None:
    stored = open_stored(SyntheticItems([(32, 32)] * 16), "square", 256)
    images = SplitImages(stored, Presentation(48, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)))
    rows = torch.tensor([5, 3, 11, 0, 7, 2, 15, 9])
    whole = images.training_batch(rows, augmentation, 1, 2, CPU)
    parts = [images.training_batch(rows[part], augmentation, 1, 2, CPU) for part in (slice(0, 3), slice(3, 8))]
    # The crops are the same to the pixel; a matrix product may sum in another order for another number of images.
    assert torch.allclose(torch.cat(parts), whole, atol=1e-6)


def test_batch_keeps_its_values_when_later_ones_are_made() -> None:
    images = _images("bilinear", 64)
    first = images.training_batch(torch.arange(8), "crop_flip", 0, 1, CPU)
    kept = first.clone()
    later = [images.training_batch(torch.arange(8), "crop_flip", 0, epoch, CPU) for epoch in range(2, 7)]
    assert torch.equal(first, kept)
    assert len({batch.data_ptr() for batch in [first, *later]}) == 6


def test_memory_is_used_again_when_nothing_refers_to_it() -> None:
    images = _images("bilinear", 64)
    addresses = {images.training_batch(torch.arange(8), "crop_flip", 0, e, CPU).data_ptr() for e in range(1, 6)}
    assert len(addresses) <= 2


def test_memory_is_not_used_again_when_only_a_view_of_it_lives() -> None:
    images = _images("bilinear", 64)
    view = images.training_batch(torch.arange(8), "crop_flip", 0, 1, CPU)[:, 0, :2]
    kept = view.clone()
    images.training_batch(torch.arange(8), "crop_flip", 0, 2, CPU)
    assert torch.equal(view, kept)
