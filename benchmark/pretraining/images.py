"""Procedural images with labels: pen strokes, fractals, blobs and gratings, drawn in one batch at a time.

A class is a *prototype* (the control points of a few strokes, the maps of an iterated function system, the outline of
a blob, the orientation and frequency of a grating). An image is its class's prototype seen through a random affine map,
with jittered parameters, stroke width, colours and noise. Nothing here is a letter or a digit by design.

Coordinates run from -1 (left, top) to 1 (right, bottom) whatever the image size. Every random number comes from the
`torch.Generator` that the caller passes, so one seed gives one sequence of images.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.pretraining.recipe import ImageVariation, PrototypeCounts

NUM_CURVES_PER_STROKE_CLASS = 3
NUM_POINTS_PER_CURVE = 10  # 0.2 apart on a long curve, about a stroke's width
NUM_FRACTAL_MAPS = 4
NUM_FRACTAL_LEVELS = 3  # 4 maps and 3 levels give 64 points, as many as a small image can tell apart
NUM_BLOB_HARMONICS = 5
BLOB_MEAN_RADIUS = 0.55
MIN_GRATING_CYCLES, MAX_GRATING_CYCLES = 1.0, 3.0  # across the image; more than 3 blur at 18 pixels
JOINED_CURVES_FRACTION = 0.6


@dataclass(frozen=True)
class Prototypes:
    """The classes of a generator, one tensor a family; a class's label is its row, families one after another.

    Attributes:
        strokes: control points, shape (classes, curves, 3, 2).
        fractals: affine maps, shape (classes, maps, 2, 3).
        blobs: cosine and sine amplitudes of the outline's radius, shape (classes, harmonics, 2).
        gratings: wave vectors in radians per unit length, shape (classes, 2).
    """

    strokes: Tensor
    fractals: Tensor
    blobs: Tensor
    gratings: Tensor

    @property
    def num_classes(self) -> int:
        """Number of classes over all four families."""
        return sum(len(family) for family in (self.strokes, self.fractals, self.blobs, self.gratings))


def uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    """Draw float32 numbers uniformly from [low, high), in the given shape."""
    return torch.rand(shape, generator=generator) * (high - low) + low


def draw_prototypes(counts: PrototypeCounts, generator: torch.Generator) -> Prototypes:
    """Draw the classes themselves; the order of the draws is part of what a seed means."""
    return Prototypes(
        strokes=stroke_prototypes(counts.num_stroke_classes, generator),
        fractals=fractal_prototypes(counts.num_fractal_classes, generator),
        blobs=blob_prototypes(counts.num_blob_classes, generator),
        gratings=grating_prototypes(counts.num_grating_classes, generator),
    )


def stroke_prototypes(num_classes: int, generator: torch.Generator) -> Tensor:
    """Draw quadratic Bezier curves, shape (num_classes, curves, 3, 2); many start where the one before ended."""
    shape = (num_classes, NUM_CURVES_PER_STROKE_CLASS, 3, 2)
    points = uniform(shape, -0.85, 0.85, generator)
    is_joined = torch.rand(shape[:2], generator=generator) < JOINED_CURVES_FRACTION
    for curve in range(1, NUM_CURVES_PER_STROKE_CLASS):
        start = torch.where(is_joined[:, curve, None], points[:, curve - 1, 2], points[:, curve, 0])
        points[:, curve, 0] = start
    return points


def fractal_prototypes(num_classes: int, generator: torch.Generator) -> Tensor:
    """Draw contracting affine maps, shape (num_classes, maps, 2, 3); the last column is the shift."""
    shape = (num_classes, NUM_FRACTAL_MAPS)
    angle = uniform(shape, -torch.pi, torch.pi, generator)
    contraction = uniform((*shape, 2), 0.25, 0.6, generator)
    shift = uniform((*shape, 2), -0.6, 0.6, generator)
    first_row = torch.stack([contraction[..., 0] * angle.cos(), -contraction[..., 1] * angle.sin(), shift[..., 0]], -1)
    second_row = torch.stack([contraction[..., 0] * angle.sin(), contraction[..., 1] * angle.cos(), shift[..., 1]], -1)
    return torch.stack([first_row, second_row], dim=-2)


def blob_prototypes(num_classes: int, generator: torch.Generator) -> Tensor:
    """Draw outlines r(angle) as Fourier amplitudes, shape (num_classes, harmonics, 2), in units of length."""
    amplitude = 0.22 * torch.randn((num_classes, NUM_BLOB_HARMONICS, 2), generator=generator)
    harmonic = torch.arange(1, NUM_BLOB_HARMONICS + 1, dtype=torch.float32)
    return amplitude / harmonic.sqrt()[None, :, None]


def grating_prototypes(num_classes: int, generator: torch.Generator) -> Tensor:
    """Draw wave vectors, shape (num_classes, 2): orientations evenly spread, frequencies drawn."""
    angle = torch.arange(num_classes, dtype=torch.float32) * (torch.pi / max(num_classes, 1))
    cycles = uniform((num_classes,), MIN_GRATING_CYCLES, MAX_GRATING_CYCLES, generator)
    return torch.pi * cycles[:, None] * torch.stack([angle.cos(), angle.sin()], dim=-1)


def pixel_centres(image_size_pixels: int) -> Tensor:
    """Return the coordinates (x, y) of the pixel centres, row by row, shape (pixels, 2)."""
    axis = (torch.arange(image_size_pixels, dtype=torch.float32) + 0.5) * (2.0 / image_size_pixels) - 1.0
    rows, columns = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([columns.flatten(), rows.flatten()], dim=-1)


def warped_grids(num_images: int, image_size_pixels: int, variation: ImageVariation, rng: torch.Generator) -> Tensor:
    """Send the pixel centres through one random affine map an image.

    Args:
        num_images: how many grids.
        image_size_pixels: side of the image.
        variation: the ranges of rotation, scale, shear and shift.
        rng: source of every random number.

    Returns:
        Tensor: where each pixel looks in its prototype, shape (num_images, pixels, 2).
    """
    angle = uniform((num_images,), -1.0, 1.0, rng) * (variation.max_rotation_degrees * torch.pi / 180.0)
    scale = uniform((num_images, 1, 2), variation.min_scale, variation.max_scale, rng)
    shear = uniform((num_images,), -variation.max_shear, variation.max_shear, rng)
    shift = uniform((num_images, 1, 2), -variation.max_shift, variation.max_shift, rng)
    first_row = torch.stack([angle.cos(), -angle.sin() + shear], dim=-1)
    second_row = torch.stack([angle.sin(), angle.cos()], dim=-1)
    matrix = torch.stack([first_row, second_row], dim=-2)
    return ((pixel_centres(image_size_pixels)[None] - shift) / scale) @ matrix


def cover_points(grids: Tensor, points: Tensor, radius: Tensor, softness: Tensor) -> Tensor:
    """Cover the pixels near any of an image's points.

    Args:
        grids: pixel coordinates, shape (images, pixels, 2).
        points: shape (images, points, 2).
        radius: distance at which the coverage is one half, shape (images,).
        softness: width of the edge, in units of length, shape (images,).

    Returns:
        Tensor: coverage in [0, 1], shape (images, pixels).
    """
    # The distance written out: `cdist` may switch to a matrix product whose rounding depends on the batch's size.
    across = grids[:, :, None, 0] - points[:, None, :, 0]
    down = grids[:, :, None, 1] - points[:, None, :, 1]
    distance = (across.square() + down.square()).amin(dim=-1).sqrt()
    return torch.sigmoid((radius[:, None] - distance) / softness[:, None])


def stroke_points(control_points: Tensor) -> Tensor:
    """Sample the Bezier curves of shape (images, curves, 3, 2) evenly: points of shape (images, points, 2)."""
    time = torch.linspace(0.0, 1.0, NUM_POINTS_PER_CURVE)
    weights = torch.stack([(1 - time).square(), 2 * time * (1 - time), time.square()], dim=-1)
    return (weights @ control_points).flatten(1, 2)


def fractal_points(maps: Tensor) -> Tensor:
    """Apply every word of maps, shape (images, maps, 2, 3), to the origin: points of shape (images, points, 2)."""
    points = torch.zeros(len(maps), 1, 2)
    for _ in range(NUM_FRACTAL_LEVELS):
        moved = points[:, None] @ maps[..., :2].transpose(-1, -2) + maps[:, :, None, :, 2]
        points = moved.flatten(1, 2)
    return points


def cover_blobs(grids: Tensor, amplitudes: Tensor, softness: Tensor) -> Tensor:
    """Cover the inside of outlines of shape (images, harmonics, 2): coverage in [0, 1], shape (images, pixels)."""
    harmonic = torch.arange(1, NUM_BLOB_HARMONICS + 1, dtype=torch.float32)
    phase = torch.atan2(grids[..., 1], grids[..., 0])[..., None] * harmonic
    waves = phase.cos() * amplitudes[:, None, :, 0] + phase.sin() * amplitudes[:, None, :, 1]
    outline_radius = BLOB_MEAN_RADIUS + waves.sum(dim=-1)
    distance = grids.square().sum(dim=-1).sqrt()
    return torch.sigmoid((outline_radius - distance) / softness[:, None])


def cover_gratings(grids: Tensor, wave_vectors: Tensor, phase: Tensor) -> Tensor:
    """Cover with sine waves of wave vectors (images, 2) and phases (images,): shape (images, pixels), in [0, 1]."""
    return 0.5 + 0.5 * torch.sin((grids * wave_vectors[:, None]).sum(dim=-1) + phase[:, None])


def cover_family(family: str, rows: Tensor, grids: Tensor, variation: ImageVariation, rng: torch.Generator) -> Tensor:
    """Draw one family's images: the prototypes' rows (one an image), jittered, as coverage (images, pixels)."""
    num_images = len(rows)
    jittered = rows * (1.0 + 0.5 * variation.jitter * torch.randn(rows.shape, generator=rng))
    radius = uniform((num_images,), variation.min_stroke_radius, variation.max_stroke_radius, rng)
    softness = uniform((num_images,), variation.min_edge_softness, variation.max_edge_softness, rng)
    if family == "strokes":
        moved = rows + variation.jitter * torch.randn(rows.shape, generator=rng)
        return cover_points(grids, stroke_points(moved), radius, softness)
    if family == "fractals":
        return cover_points(grids, fractal_points(jittered), 0.7 * radius, softness)
    if family == "blobs":
        return cover_blobs(grids, jittered, softness)
    return cover_gratings(grids, rows, uniform((num_images,), 0.0, 2 * torch.pi, rng))


def colour_images(coverage: Tensor, variation: ImageVariation, generator: torch.Generator) -> Tensor:
    """Paint coverage (images, pixels) with two random colours an image and add noise: (images, 3, pixels) in [0, 1].

    Most images are near grey (one lightness, a slight tint); `inverted_fraction` of them are dark on light.
    """
    num_images = len(coverage)
    dark = uniform((num_images, 1, 1), 0.0, 0.3, generator)
    light = uniform((num_images, 1, 1), 0.6, 1.0, generator)
    is_inverted = torch.rand((num_images, 1, 1), generator=generator) < variation.inverted_fraction
    background, foreground = torch.where(is_inverted, light, dark), torch.where(is_inverted, dark, light)
    tint = variation.tint * torch.randn((2, num_images, 3, 1), generator=generator)
    background, foreground = background + tint[0], foreground + tint[1]
    painted = background + (foreground - background) * coverage[:, None]
    noise = variation.noise * torch.randn(painted.shape, generator=generator)
    return (painted + noise).clamp(0.0, 1.0)


def draw_batch(
    prototypes: Prototypes,
    variation: ImageVariation,
    num_images: int,
    image_size_pixels: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Draw a batch of labelled images, every class equally likely.

    Args:
        prototypes: the classes.
        variation: how far an image may be from its prototype.
        num_images: how many images.
        image_size_pixels: side of the images.
        generator: source of every random number; it is advanced.

    Returns:
        tuple[Tensor, Tensor]: images of shape (num_images, 3, side, side), float32 in [0, 1], and labels of shape
            (num_images,), int64 in [0, prototypes.num_classes).
    """
    labels = torch.randint(prototypes.num_classes, (num_images,), generator=generator)
    grids = warped_grids(num_images, image_size_pixels, variation, generator)
    coverage = torch.empty(num_images, image_size_pixels**2)
    first_label = 0
    for family in ("strokes", "fractals", "blobs", "gratings"):
        rows: Tensor = getattr(prototypes, family)
        chosen = torch.where((labels >= first_label) & (labels < first_label + len(rows)))[0]
        family_rows = rows[labels[chosen] - first_label]
        coverage[chosen] = cover_family(family, family_rows, grids[chosen], variation, generator)
        first_label += len(rows)
    images = colour_images(coverage, variation, generator)
    return images.unflatten(-1, (image_size_pixels, image_size_pixels)), labels
