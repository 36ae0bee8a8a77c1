"""What the benchmarks train: the package's own backbone or a pretrained ViT-Ti/16, on folders of real images."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

REPOSITORY = Path(__file__).parents[2]
BATCH_IMAGES = 64
TRAINING = {"learning_rate": 1e-3, "weight_decay": 0.05, "gradient_clip_norm": 1.0, "warmup_epochs": 0}
VIT_TINY, IMAGES = "vit_tiny_patch16_224.augreg_in21k_ft_in1k", "cifar10_500_100.tar"


@dataclass(frozen=True)
class Backbone:
    """What is adapted: its name in the suite, timm's arguments, and its weights."""

    name: str
    shape: dict[str, Any]
    weights: Path

    def request(self) -> dict[str, Any]:
        """Return what a study or a trial says of it."""
        weights = {} if self.name == VIT_NANO.name else {"weights": str(self.weights)}
        return {"name": self.name, "image_size": self.shape["img_size"], **weights}


VIT_NANO = Backbone(
    "vit_nano",
    {"patch_size": 6, "embed_dim": 64, "depth": 6, "num_heads": 4, "mlp_ratio": 2.0, "img_size": 18},
    REPOSITORY / "benchmark/backbones/weights/vit_nano.safetensors",
)


def vit_tiny(image_size: int) -> Backbone | None:
    """Return ViT-Ti/16; none, and a word why, where `ADAPTERTUNE_REAL_DATA` has not its weights and images."""
    folder = Path(os.environ.get("ADAPTERTUNE_REAL_DATA") or os.devnull)
    weights, images = folder / f"{VIT_TINY}.safetensors", folder / IMAGES
    if weights.is_file() and images.is_file():
        shape = {"patch_size": 16, "embed_dim": 192, "depth": 12, "num_heads": 3, "img_size": image_size}
        return Backbone(VIT_TINY, shape, weights)
    sys.stderr.write(f"no ViT-Ti/16: ADAPTERTUNE_REAL_DATA names no folder with {weights.name} and {images.name}\n")
    return None


def find_backbone(name: str, image_size: int) -> Backbone:
    """Return `vit_nano`, or `vit_tiny` for images of this size; end the program where it is not here."""
    return VIT_NANO if name == VIT_NANO.name else vit_tiny(image_size) or sys.exit(2)


def output_of(*command: str, **variables: str) -> str:
    """Run a program of Python's in the repository, with more variables of the environment; where it fails, say why."""
    whole, environment = [sys.executable, *command], {**os.environ, **variables}
    ended = subprocess.run(whole, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        sys.exit(f"{' '.join(whole)} ended with {ended.returncode}:\n{ended.stderr}")
    return ended.stdout


def write_images(folder: Path, backbone: Backbone, num_train: int, num_validation: int) -> int:
    """Write train/, val/ and a small test/ of real images, one folder a class; return the number of classes."""
    if backbone.name == "vit_nano":
        digits = load_digits()
        pixels = (digits.images * 255 / 16).astype(np.uint8)
        sources = [(str(label), Image.fromarray(image)) for label, image in zip(digits.target, pixels, strict=True)]
    else:
        with tarfile.open(backbone.weights.with_name(IMAGES)) as archive:
            members = [member for member in archive if member.isfile() and "train/" in member.name]
            sources = [(Path(m.name).parent.name, Image.open(archive.extractfile(m)).copy()) for m in members]  # type: ignore[arg-type]
    order = np.random.default_rng(0).permutation(len(sources))
    ends = [("train", num_train), ("val", num_train + num_validation), ("test", num_train + num_validation + 64)]
    for number, row in enumerate(order[: ends[-1][1]]):
        split = next(name for name, end in ends if number < end)
        label, image = sources[row]
        path = folder / split / label / f"{row:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    return len({label for label, _ in sources})
