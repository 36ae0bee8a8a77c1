"""Outputs of a frozen prefix in a memory-mapped file, shared by all processes of a node and by later studies."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmark.cache_folder import cap_bytes, mapped_bytes, open_entry_in_parts, prune

KIND = "prefix"
FORMAT = 3
"""Raised when the same weights, images and presentation give other outputs."""

_OUTPUTS = "outputs.bin"
_MOST_PARTS = 64


def mapped_outputs(
    key: str,
    description: dict[str, Any],
    shape: tuple[int, ...],
    dtype: torch.dtype,
    outputs_of: Callable[[Tensor], Tensor],
    batch_images: int,
) -> Tensor:
    """Return the outputs of all images of a split; what no process has computed before, those that want it share.

    Args:
        key: Names all that the outputs follow from.
        description: The same for people, as JSON values.
        shape: [N, tokens, width] or [N, width].
        dtype: Of the outputs.
        outputs_of: Computes those of a batch from its rows.
        batch_images: Rows of a batch.

    Raises:
        MissingError: The cache folder cannot be written, or the disk is full.
    """
    num_images, bytes_per_image = shape[0], math.prod(shape[1:]) * dtype.itemsize
    part_images = batch_images * -(-num_images // (batch_images * _MOST_PARTS))
    parts = torch.arange(num_images).split(part_images)

    def write(folder: Path, number: int) -> None:
        (folder / _OUTPUTS).touch()
        with (folder / _OUTPUTS).open("r+b") as file:
            file.seek(int(parts[number][0]) * bytes_per_image)
            for rows in parts[number].split(batch_images):
                file.write(outputs_of(rows).to("cpu", dtype).contiguous().view(torch.uint8).numpy().data)

    # The last bits of a product may differ with the kernels of a processor, with threads and with the rows at once.
    runs_as = f"{torch.__version__}/{torch.backends.cpu.get_cpu_capability()}/{torch.get_num_threads()}/{batch_images}"
    digest = hashlib.sha256(f"{FORMAT}/{runs_as}/{key}".encode()).hexdigest()[:32]
    held = open_entry_in_parts(KIND, digest, description, len(parts), write)
    prune(cap_bytes())
    buffer = mapped_bytes(held, _OUTPUTS)
    assert buffer.size == math.prod(shape) * dtype.itemsize, (held.folder, buffer.size, shape)
    return torch.from_numpy(buffer).view(dtype).view(shape)
