"""Small image folders that tests make and break."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

FOLDERS = {"train/cat": 10, "train/dog": 10, "test/cat": 2, "test/dog": 3}


def pixels(seed: int, height: int = 6, width: int = 8) -> np.ndarray:
    """Return random uint8 pixels [height, width, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png_bytes(seed: int) -> bytes:
    """Return a PNG of random pixels."""
    buffer = io.BytesIO()
    Image.fromarray(pixels(seed)).save(buffer, "PNG")
    return buffer.getvalue()


def make_folder(root: Path, folders: Mapping[str, int] = FOLDERS) -> Path:
    """Write distinct PNG files, so many in each folder."""
    seed = 0
    for folder, num_images in folders.items():
        (root / folder).mkdir(parents=True)
        for index in range(num_images):
            seed += 1
            (root / folder / f"{index:03d}.png").write_bytes(png_bytes(seed))
    return root


def make_tar(path: Path, folder: Path, prefix: str = "") -> Path:
    """Pack a folder's content into an uncompressed tar."""
    with tarfile.open(path, "w") as archive:
        for child in sorted(folder.iterdir()):
            archive.add(child, arcname=f"{prefix}{child.name}")
    return path


def make_tar_of(path: Path, name: str, content: bytes = b"x") -> Path:
    """Write a tar whose only member has this name."""
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return path
