"""Outputs of a frozen prefix in a memory-mapped file, shared by all processes of a node and by later studies."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmark.cache_folder import cap_bytes, mapped_bytes, open_entry, prune

KIND = "prefix"
FORMAT = 2
"""Raised when the same weights, images and presentation give other outputs."""

_OUTPUTS = "outputs.bin"


def mapped_outputs(
    key: str, description: dict[str, Any], shape: tuple[int, ...], dtype: torch.dtype, batches: Iterable[Tensor]
) -> Tensor:
    """Return the outputs of all images of a split, computed first where no process has done it before.

    Args:
        key: Names all that the outputs follow from.
        description: The same for people, as JSON values.
        shape: [N, tokens, width] or [N, width].
        dtype: Of the outputs.
        batches: Computes them in order; asked only where they are not there.

    Raises:
        MissingError: The cache folder cannot be written, or the disk is full.
    """

    def write(folder: Path) -> None:
        with (folder / _OUTPUTS).open("wb") as file:
            for batch in batches:
                file.write(batch.to("cpu", dtype).contiguous().view(torch.uint8).numpy().data)

    digest = hashlib.sha256(f"{FORMAT}/{torch.__version__}/{key}".encode()).hexdigest()[:32]
    held = open_entry(KIND, digest, description, write)
    prune(cap_bytes())
    buffer = mapped_bytes(held, _OUTPUTS)
    assert buffer.size == math.prod(shape) * dtype.itemsize, (held.folder, buffer.size, shape)
    return torch.from_numpy(buffer).view(dtype).view(shape)
