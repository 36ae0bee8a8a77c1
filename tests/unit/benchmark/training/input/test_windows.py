"""Guards the law of the crops: torchvision's, drawn from (seed, epoch, row) alone."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms import RandomResizedCrop

from benchmark.training.input.windows import Windows, centre_windows, random_crop_windows

NUM_DRAWS = 4000


def _draw(height: int, width: int, epoch: int = 1, num_images: int = NUM_DRAWS) -> Windows:
    heights, widths = torch.full((num_images,), height), torch.full((num_images,), width)
    return random_crop_windows(heights, widths, 224, 0, epoch, torch.arange(num_images))


def _as_table(windows: Windows) -> torch.Tensor:
    vertical, horizontal = windows.vertical, windows.horizontal
    return torch.stack([vertical.start, horizontal.start, vertical.length, horizontal.length], dim=1)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (100, 300)])
def test_crops_have_torchvisions_law_when_drawn_often(height: int, width: int) -> None:
    torch.manual_seed(0)
    image = torch.empty(3, height, width)
    theirs = torch.tensor([RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(NUM_DRAWS)])
    ours = _as_table(_draw(height, width)).double()
    theirs = theirs.double()
    # Means and spreads of top, left, height, width: five standard errors of a difference of two means.
    standard_error = (theirs.var(dim=0) * 2 / NUM_DRAWS).sqrt()
    assert ((ours.mean(dim=0) - theirs.mean(dim=0)).abs() < 5 * standard_error).all()
    # The variance's own standard error is below 3 % at this number of draws.
    assert torch.allclose(ours.std(dim=0), theirs.std(dim=0), rtol=0.08)


@pytest.mark.parametrize(("height", "width"), [(4, 400), (400, 4), (1, 1)])
def test_crop_is_torchvisions_centre_when_no_attempt_can_fit(height: int, width: int) -> None:
    # No crop of 8 % of the area with a ratio within 3/4-4/3 fits into these; 1 x 1 fits whole.
    theirs = RandomResizedCrop.get_params(torch.empty(3, height, width), [0.08, 1.0], [3 / 4, 4 / 3])
    assert _as_table(_draw(height, width, num_images=1)).tolist() == [list(theirs)]


def test_crop_lies_inside_the_image_when_drawn_often() -> None:
    top, left, height, width = _as_table(_draw(30, 41)).unbind(1)
    assert int(torch.stack([top, left]).min()) == 0
    assert int((top + height).max()) == 30
    assert int((left + width).max()) == 41


def test_half_of_the_images_are_mirrored_when_drawn_often() -> None:
    assert abs(float(_draw(8, 8).mirrored.float().mean()) - 0.5) < 5 * 0.5 / NUM_DRAWS**0.5


def test_crops_differ_when_the_epoch_does() -> None:
    assert not torch.equal(_as_table(_draw(32, 32, 1, 8)), _as_table(_draw(32, 32, 2, 8)))


def test_crop_of_an_image_is_the_same_when_its_neighbours_differ() -> None:
    rows = torch.tensor([7, 3])
    alone = random_crop_windows(torch.tensor([32, 48]), torch.tensor([32, 64]), 224, 0, 1, rows)
    swapped = random_crop_windows(torch.tensor([48, 32]), torch.tensor([64, 32]), 224, 0, 1, rows.flip(0))
    assert torch.equal(_as_table(alone), _as_table(swapped).flip(0))


def test_whole_image_is_shown_when_it_is_square_and_the_crop_fraction_one() -> None:
    windows = centre_windows(torch.tensor([8]), torch.tensor([8]), 18, 1.0)
    assert (int(windows.vertical.resized_length), int(windows.vertical.first_shown)) == (18, 0)


def test_longer_side_is_cut_down_to_a_whole_number_when_resized() -> None:
    # torchvision: Resize(256) makes 256 x 341 of 300 x 400, and CenterCrop(224) begins at round(58.5) = 58.
    windows = centre_windows(torch.tensor([300]), torch.tensor([400]), 224, 224 / 256)
    assert (int(windows.horizontal.resized_length), int(windows.horizontal.first_shown)) == (341, 58)
    assert (int(windows.vertical.resized_length), int(windows.vertical.first_shown)) == (256, 16)
