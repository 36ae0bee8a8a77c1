"""Guards that real published weights load strictly and are worth what is known of them."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from benchmark.backbones.contract import find_backbone, load_backbone
from benchmark.backbones.parts.weight_files import read_tensors
from benchmark.request import resolve_trial
from benchmark.training.images import Presentation, present
from benchmark.training.model import assemble

pytestmark = pytest.mark.real

NAME = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
NUM_PARAMETERS_WITH_HEAD = 5_717_416  # README of the data folder
TRAIN_PER_CLASS, TEST_PER_CLASS = 40, 20


@pytest.fixture(scope="module")
def data() -> Path:
    """The folder of real inputs."""
    folder = os.environ.get("ADAPTERTUNE_REAL_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("ADAPTERTUNE_REAL_DATA is unset or no folder")
    return Path(folder)


def _spec_of(data: Path, image_size: int) -> dict[str, object]:
    return {"name": NAME, "weights": str(data / f"{NAME}.safetensors"), "image_size": image_size}


def test_real_weights_load_whole_and_are_named_when_given_as_a_file(data: Path) -> None:
    backbone = _spec_of(data, 96)
    spec = resolve_trial({"backbone": backbone, "dataset": "digits", "method": {"name": "adaptertune", "rank": 8}})
    model = assemble(spec, 10)
    tensors = read_tensors(data / f"{NAME}.safetensors")
    assert sum(tensor.numel() for tensor in tensors.values()) == NUM_PARAMETERS_WITH_HEAD
    # The checksum's definition, written out a second time: sorted names, type, shape, bytes; the head left out.
    digest = hashlib.sha256()
    for name in sorted(name for name in tensors if not name.startswith("head.")):
        tensor = tensors[name]
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode() + tensor.numpy().tobytes())
    assert model.weights_sha256 == digest.hexdigest()
    assert spec.backbone.weights_sha256 is not None
    assert spec.backbone.weights_sha256.startswith("0416ed9802e3")  # README of the data folder
    assert model.backbone.pos_embed.shape == (1, 1 + 6 * 6, 192)  # 96 / 16 patches a side, and the CLS token


def _images(data: Path, split: str, per_class: int) -> tuple[Tensor, np.ndarray]:
    pixels, labels = [], []
    with tarfile.open(data / "cifar10_500_100.tar") as archive:
        seen: dict[str, int] = {}
        for member in sorted(archive.getmembers(), key=lambda member: member.name):
            parts = Path(member.name).parts
            if member.isfile() and split in parts and seen.get(parts[-2], 0) < per_class:
                seen[parts[-2]] = seen.get(parts[-2], 0) + 1
                pixels.append(np.asarray(Image.open(io.BytesIO(archive.extractfile(member).read())).convert("RGB")))
                labels.append(parts[-2])
    return torch.from_numpy(np.stack(pixels)), np.array(labels)


def _accuracy(data: Path, weights: str, image_size: int) -> float:
    info = find_backbone(NAME)
    path = str(data / f"{NAME}.safetensors") if weights == "file" else None
    model = load_backbone(NAME, weights, image_size, weights_file=path).model
    how = Presentation(image_size, info.interpolation, info.mean, info.std)
    features, labels = [], []
    for split, count in (("train", TRAIN_PER_CLASS), ("test", TEST_PER_CLASS)):
        pixels, names = _images(data, split, count)
        with torch.no_grad():
            features.append(torch.cat([model(present(batch, how)) for batch in pixels.split(100)]).numpy())
        labels.append(names)
    classifier = LogisticRegression(max_iter=500).fit(features[0], labels[0])
    return float(classifier.score(features[1], labels[1]))


def test_features_are_timms_own_when_both_resample_one_file_to_96_pixels(data: Path) -> None:
    path = str(data / f"{NAME}.safetensors")
    by_timm = timm.create_model(NAME, True, pretrained_cfg_overlay={"file": path}, num_classes=0, img_size=96).eval()
    ours = load_backbone(NAME, "file", 96, weights_file=path).model
    pixels = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(ours(pixels), by_timm(pixels))


def test_frozen_features_separate_real_images_when_resampled_to_96_pixels(data: Path) -> None:
    # Measured on these 400 training and 200 test images: 51.5 %, random weights 25.5 %, and 82.5 % at 224 pixels. The
    # standard error of one accuracy is 3.5 points, so the bounds leave two and more.
    pretrained, random = _accuracy(data, "file", 96), _accuracy(data, "random", 96)
    assert pretrained > 0.42
    assert pretrained > random + 0.15
