"""Antialiased resampling of a whole batch, each image with its own crop, as two batched matrix products.

Output = V · crop · Hᵀ, where row s of V holds the filter's weights of output row s over the crop's rows. That is the
law of PIL's `resize` in floating point. PIL itself rounds to 8 bits after each of the two passes, so the two differ by
at most 1.5 grey levels, and by 0.35 on average. Where `bicubic` overshoots black or white the order of the passes shows
by a few levels more: columns are first here, and in PIL too when an image grows; PIL 13 may begin with the rows when it
shrinks.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from benchmark.training.input.windows import Axis, Windows
from benchmark.training.transfer import to_device

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, UInt8

_CUBIC_SHARPNESS = -0.5
_FILTER_RADIUS_PIXELS = {"bilinear": 1.0, "bicubic": 2.0}
_NUM_IMAGES_IN_CPU_CACHE = 16
"""Small images resampled at once on a CPU: more would leave its cache between the passes. Large ones go one by one."""
_LONGEST_TABULATED_PIXELS = 64
"""Crops of images up to this side come from a table of all lengths, 3.7 MB for 64 to 224 pixels."""


def resample(
    crops: UInt8[Tensor, "batch height width 3"],
    windows: Windows,
    size_pixels: int,
    interpolation: str,
    mean: Sequence[float],
    std: Sequence[float],
    output: Float[Tensor, "batch 3 size size"] | None = None,
) -> Float[Tensor, "batch 3 size size"]:
    """Resize the crops, show their windows, and normalise.

    Args:
        crops: Each image's crop in the upper left corner, on the device that is to compute; the rest is ignored.
        windows: What was cut and what is shown of it; `start` is not used any more.
        size_pixels: Side of the square output.
        interpolation: `bilinear` or `bicubic`, with antialiasing.
        mean: Channel means for pixels in [0, 1].
        std: Channel standard deviations.
        output: Memory for the result; none: new memory, which a CPU spends a third of the time on.
    """
    if output is None:
        output = torch.empty(len(crops), 3, size_pixels, size_pixels, device=crops.device)
    with torch.autocast(crops.device.type, enabled=False):  # inputs are fp32, whatever the model computes in
        _resample_into(output, crops, windows, interpolation, mean, std)
    return output


def _resample_into(
    output: Float[Tensor, "batch 3 size size"],
    crops: UInt8[Tensor, "batch height width 3"],
    windows: Windows,
    interpolation: str,
    mean: Sequence[float],
    std: Sequence[float],
) -> None:
    is_large = max(crops.shape[1:3]) > _LONGEST_TABULATED_PIXELS
    at_once = len(crops) if crops.device.type != "cpu" else 1 if is_large else _NUM_IMAGES_IN_CPU_CACHE
    lowest = [(0.0 - m) / s for m, s in zip(mean, std, strict=True)]
    highest = [(1.0 - m) / s for m, s in zip(mean, std, strict=True)]
    offset, scale = (_constant(tuple(values), crops.device) * 255.0 for values in (mean, std))
    for start in range(0, len(crops), at_once):
        images = slice(start, start + at_once)
        shown = windows.part(images)
        # Large frames are cut to what is in them; small ones keep the size that the table is for.
        height, width = _longest(shown) if is_large else crops.shape[1:3]
        # Weights sum to 1, so normalising the few source pixels is normalising the many of the output.
        pixels = ((crops[images, :height, :width].float() - offset) / scale).permute(0, 3, 1, 2).contiguous()
        _two_passes(pixels, shown, interpolation, (lowest, highest), output[images])


@functools.lru_cache(maxsize=8)
def _constant(values: tuple[float, ...], device: torch.device) -> Float[Tensor, " values"]:
    return torch.tensor(values, dtype=torch.float32, device=device)


def _longest(windows: Windows) -> tuple[int, int]:
    return int(windows.vertical.length.max()), int(windows.horizontal.length.max())


def _two_passes(
    pixels: Float[Tensor, "batch 3 height width"],
    windows: Windows,
    interpolation: str,
    bounds: tuple[Sequence[float], Sequence[float]],
    output: Float[Tensor, "batch 3 size size"],
) -> None:
    num_images, _, height, width = pixels.shape
    size = output.shape[-1]
    upright = torch.zeros_like(windows.mirrored)
    across = _weights(windows.horizontal, windows.mirrored, size, width, interpolation, pixels.device)
    down = _weights(windows.vertical, upright, size, height, interpolation, pixels.device)
    narrow = torch.bmm(pixels.view(num_images, 3 * height, width), across.transpose(1, 2))
    _clip(narrow.view(num_images, 3, height, size), interpolation, bounds)
    down_by_channel = down[:, None].expand(-1, 3, -1, -1).reshape(num_images * 3, size, height)
    torch.bmm(down_by_channel, narrow.view(num_images * 3, height, size), out=output.view(-1, size, size))
    _clip(output, interpolation, bounds)


def _clip(pixels: Tensor, interpolation: str, bounds: tuple[Sequence[float], Sequence[float]]) -> None:
    """Clip what the bicubic filter's negative weights overshoot; the bilinear ones are all positive."""
    if interpolation == "bicubic":
        for channel, (lowest, highest) in enumerate(zip(*bounds, strict=True)):
            pixels[:, channel].clamp_(lowest, highest)


def _weights(
    axis: Axis, mirrored: Bool[Tensor, " batch"], size: int, num_source_pixels: int, interpolation: str, device: Any
) -> Float[Tensor, "batch output source"]:
    """Return the matrices of a batch: from the table where every crop fills the output, computed elsewhere."""
    fills_output = bool((axis.resized_length == size).all()) and not bool(axis.first_shown.any())
    if fills_output and num_source_pixels <= _LONGEST_TABULATED_PIXELS:
        entries = axis.length - 1 + mirrored * num_source_pixels
        return _table(size, num_source_pixels, interpolation, device)[to_device(entries, device)]
    if len(mirrored) > 1 and axis.is_uniform() and not bool(mirrored.any()):
        one = slice(0, 1)
        return _weights(axis.part(one), mirrored[one], size, num_source_pixels, interpolation, device).expand(
            len(mirrored), -1, -1
        )
    return weight_matrices(axis, mirrored, size, num_source_pixels, interpolation, device)


@functools.lru_cache(maxsize=8)
def _table(
    size: int, num_source_pixels: int, interpolation: str, device: Any
) -> Float[Tensor, "entries output source"]:
    """Return the matrices of the crop lengths 1, 2, ..., and after them those of the mirrored crops."""
    lengths = torch.arange(1, num_source_pixels + 1)
    none, upright = torch.zeros_like(lengths), torch.zeros(num_source_pixels, dtype=torch.bool)
    axis = Axis(none, lengths, torch.full_like(lengths, size), none)
    matrices = weight_matrices(axis, upright, size, num_source_pixels, interpolation)
    return torch.cat([matrices, matrices.flip(1)]).to(device)


def weight_matrices(
    axis: Axis,
    mirrored: Bool[Tensor, " batch"],
    size: int,
    num_source_pixels: int,
    interpolation: str,
    device: Any = "cpu",
) -> Float[Tensor, "batch output source"]:
    """Return each image's resampling matrix along one axis, computed on a device: rows sum to 1, 0 beyond the crop.

    Source: PIL's `precompute_coeffs` (src/libImaging/Resample.c): a filter widened by the reduction, cut at the crop's
    edges and normalised.
    """
    reduction = axis.length.double() / axis.resized_length.double()
    radius = _FILTER_RADIUS_PIXELS[interpolation]
    num_taps = 2 * math.ceil(radius * max(1.0, float(reduction.max()))) + 1
    axis, mirrored, reduction = axis.to(device), to_device(mirrored, device), to_device(reduction, device)
    stretch = reduction.clamp(min=1.0)[:, None]
    reach = radius * stretch
    shown = torch.arange(size, device=reduction.device).expand(len(reduction), -1)
    shown = torch.where(mirrored[:, None], size - 1 - shown, shown)
    centres = (axis.first_shown[:, None] + shown + 0.5) * reduction[:, None]
    firsts = (centres - reach + 0.5).long().clamp(min=0)
    ends = torch.minimum((centres + reach + 0.5).long(), axis.length[:, None])
    taps = firsts[..., None] + torch.arange(num_taps, device=reduction.device)
    weights = _filter((taps - centres[..., None] + 0.5) / stretch[..., None], interpolation)
    weights = torch.where(taps < ends[..., None], weights, 0.0)
    weights = (weights / weights.sum(dim=-1, keepdim=True)).float()
    matrices = torch.zeros(len(reduction), size, num_source_pixels, device=reduction.device)
    return matrices.scatter_add_(2, taps.clamp(max=num_source_pixels - 1), weights)


def _filter(distance: Tensor, interpolation: str) -> Tensor:
    """Return the unnormalised weights at distances in (widened) source pixels.

    Source: Keys (1981), cubic convolution with a = -1/2; the triangle for `bilinear`.
    """
    distance = distance.abs()
    if interpolation == "bilinear":
        return (1.0 - distance).clamp(min=0.0)
    a = _CUBIC_SHARPNESS
    near = ((a + 2.0) * distance - (a + 3.0)) * distance * distance + 1.0
    far = (((distance - 5.0) * distance + 8.0) * distance - 4.0) * a
    return torch.where(distance < 1.0, near, torch.where(distance < 2.0, far, 0.0))
