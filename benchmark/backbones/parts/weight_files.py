"""Reads local weight files as tensors, never as pickled code, and names their content by its hash."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.errors import MissingError, RequestError

if TYPE_CHECKING:
    from torch import Tensor

SAFETENSORS_SUFFIXES = (".safetensors",)
TORCH_SUFFIXES = (".pth", ".pt", ".bin")
NUMPY_SUFFIXES = (".npz",)
WEIGHT_SUFFIXES = SAFETENSORS_SUFFIXES + TORCH_SUFFIXES + NUMPY_SUFFIXES

WRAPPERS = ("model", "state_dict", "model_state_dict")
"""Keys under which checkpoints keep the model's tensors beside other things, as DeiT and MAE do."""

WHERE = "backbone.weights"

CONVERT = "Convert it to safetensors where you trust it: safetensors.torch.save_file(tensors, 'weights.safetensors')."

_BLOCK_BYTES = 1 << 20


def is_weight_file_name(text: str) -> bool:
    """Whether the text ends like a weight file's name."""
    return Path(text).suffix.lower() in WEIGHT_SUFFIXES


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes; computed once for an unchanged file (path, time, size).

    Raises:
        MissingError: It is not there, or not readable.
    """
    try:
        status = path.stat()
        return _file_sha256(path, status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise MissingError(
            f"the weight file {path} cannot be read: {error.strerror or error}. Check the path; a relative one starts "
            "at the working directory."
        ) from error


@functools.lru_cache(maxsize=64)
def _file_sha256(path: Path, modified_nanoseconds: int, num_bytes: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a weight file's tensors under the names it gives them, wrappers taken off.

    Raises:
        RequestError: It is of no known kind, damaged, holds pickled code, or holds no single model.
    """
    suffix = path.suffix.lower()
    if suffix in SAFETENSORS_SUFFIXES:
        return _read_safetensors(path)
    if suffix in TORCH_SUFFIXES:
        return _read_torch(path)
    if suffix in NUMPY_SUFFIXES:
        return _read_numpy(path)
    raise RequestError(WHERE, str(path), f"the file's name must end with one of {', '.join(WEIGHT_SUFFIXES)}")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise RequestError(WHERE, str(path), f"this is no readable safetensors file: {error}") from error


def _read_torch(path: Path) -> dict[str, Tensor]:
    import pickle

    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        rule = "the file holds more than tensors, and reading that would run its code; it was not read"
        raise RequestError(WHERE, str(path), rule, CONVERT) from error
    except (RuntimeError, EOFError) as error:
        rule = f"this is no readable torch checkpoint of tensors: {' '.join(str(error).split())[:200]}"
        raise RequestError(WHERE, str(path), rule, CONVERT) from error
    return _unwrapped(content, path)


def _unwrapped(content: Any, path: Path) -> dict[str, Tensor]:
    """Return the one mapping of names to tensors in a checkpoint.

    Raises:
        RequestError: There is none, or which of several is meant would be a guess.
    """
    import torch

    while isinstance(content, Mapping):
        if content and all(isinstance(value, torch.Tensor) for value in content.values()):
            return _without_parallel_prefix(content)
        inner = [key for key in WRAPPERS if isinstance(content.get(key), Mapping)]
        if len(inner) != 1:
            break
        content = content[inner[0]]
    found = f"the keys {', '.join(map(str, list(content)[:8]))}" if isinstance(content, Mapping) else type(content)
    rule = f"the file must hold one model's tensors, alone or under one of {', '.join(WRAPPERS)}; it holds {found}"
    raise RequestError(WHERE, str(path), rule, "Save the tensors of the model that is meant to a file of their own.")


def _without_parallel_prefix(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take off the `module.` that torch's data-parallel wrappers put before every name."""
    if all(name.startswith("module.") for name in tensors):
        return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return dict(tensors)


def _read_numpy(path: Path) -> dict[str, Tensor]:
    """Read Google's `.npz` under timm's names; see `benchmark/backbones/parts/google_layout.py`."""
    import zipfile

    import numpy as np

    from benchmark.backbones.parts.google_layout import to_timm_layout

    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {re.sub(r"^opt/target/", "", name): archive[name] for name in archive.files}
    except (ValueError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        rule = f"this is no .npz archive of plain arrays: {' '.join(str(error).split())[:200]}"
        raise RequestError(WHERE, str(path), rule, CONVERT) from error
    return to_timm_layout(arrays, path)
