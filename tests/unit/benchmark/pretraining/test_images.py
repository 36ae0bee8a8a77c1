"""The procedural generators: one seed gives one sequence, in the shapes and ranges promised."""

import pytest
import torch

from benchmark.pretraining.images import (
    cover_points,
    draw_batch,
    draw_prototypes,
    pixel_centres,
    stroke_points,
    warped_grids,
)
from benchmark.pretraining.recipe import ImageVariation, PrototypeCounts

FAMILIES = ("num_stroke_classes", "num_fractal_classes", "num_blob_classes", "num_grating_classes")
VARIATION = ImageVariation(
    max_rotation_degrees=15.0,
    min_scale=0.8,
    max_scale=1.1,
    max_shear=0.2,
    max_shift=0.1,
    jitter=0.1,
    min_stroke_radius=0.1,
    max_stroke_radius=0.2,
    min_edge_softness=0.05,
    max_edge_softness=0.1,
    inverted_fraction=0.3,
    tint=0.1,
    noise=0.05,
)
STILL = VARIATION.model_copy(
    update={"max_rotation_degrees": 0.0, "min_scale": 1.0, "max_scale": 1.0, "max_shear": 0.0, "max_shift": 0.0}
)


def counts(**classes_by_family: int) -> PrototypeCounts:
    return PrototypeCounts(**(dict.fromkeys(FAMILIES, 0) | classes_by_family))


def batch_of(seed: int, **classes_by_family: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    prototypes = draw_prototypes(counts(**classes_by_family), generator)
    return draw_batch(prototypes, VARIATION, num_images=24, image_size_pixels=16, generator=generator)


def test_batches_are_equal_when_the_seed_is_equal() -> None:
    families = dict.fromkeys(FAMILIES, 3)
    first_images, first_labels = batch_of(7, **families)
    second_images, second_labels = batch_of(7, **families)
    assert torch.equal(first_images, second_images)
    assert torch.equal(first_labels, second_labels)


def test_batches_differ_when_the_seed_differs() -> None:
    families = dict.fromkeys(FAMILIES, 3)
    assert not torch.equal(batch_of(7, **families)[0], batch_of(8, **families)[0])


def test_global_generator_is_left_alone_when_a_batch_is_drawn() -> None:
    state_before = torch.get_rng_state()
    batch_of(7, **dict.fromkeys(FAMILIES, 2))
    assert torch.equal(torch.get_rng_state(), state_before)


@pytest.mark.parametrize("family", FAMILIES)
def test_images_keep_shape_type_and_range_when_one_family_is_drawn(family: str) -> None:
    images, labels = batch_of(7, **{family: 5})
    assert images.shape == (24, 3, 16, 16)
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert 0.0 <= float(images.min()) < float(images.max()) <= 1.0
    assert set(labels.tolist()) <= set(range(5))
    assert float(images.flatten(1).std(dim=1).min()) > 0.01


def test_every_class_appears_when_many_images_are_drawn() -> None:
    generator = torch.Generator().manual_seed(7)
    prototypes = draw_prototypes(counts(**dict.fromkeys(FAMILIES, 2)), generator)
    _, labels = draw_batch(prototypes, VARIATION, num_images=400, image_size_pixels=8, generator=generator)
    assert prototypes.num_classes == 8
    assert set(labels.tolist()) == set(range(8))


def test_pixel_centres_are_symmetric_when_the_image_is_two_pixels_wide() -> None:
    expected = torch.tensor([[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]])
    assert torch.equal(pixel_centres(2), expected)


def test_grids_are_the_pixel_centres_when_nothing_varies() -> None:
    grids = warped_grids(3, 4, STILL, torch.Generator().manual_seed(7))
    torch.testing.assert_close(grids, pixel_centres(4).expand(3, -1, -1))


def test_coverage_is_one_half_when_a_pixel_lies_one_radius_away() -> None:
    grids, points = torch.tensor([[[0.3, 0.0], [0.0, 0.0], [2.0, 0.0]]]), torch.zeros(1, 1, 2)
    coverage = cover_points(grids, points, radius=torch.tensor([0.3]), softness=torch.tensor([0.02]))
    torch.testing.assert_close(coverage, torch.tensor([[0.5, 1.0, 0.0]]), atol=1e-5, rtol=0.0)


def test_strokes_begin_and_end_at_their_control_points_when_sampled() -> None:
    control_points = torch.tensor([[[[-1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]]])
    points = stroke_points(control_points)
    assert points[0, 0].tolist() == [-1.0, 0.0]
    assert points[0, -1].tolist() == [1.0, 0.0]
