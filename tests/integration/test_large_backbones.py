"""Guards that the large backbones build and train for real, with the counts of METHODS.md."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as functional

from benchmark.request import resolve_trial
from benchmark.training.model import assemble

NUM_CLASSES = 10

BACKBONES = {
    # METHODS.md: backbone without head; AdapterTune r16 in every block
    "vit_large_patch16_224.augreg_in21k_ft_in1k": (303_301_632, 811_392),
    "vit_huge_patch14_224.orig_in21k": (630_764_800, 1_352_192),
    "vit_huge_patch14_clip_224.laion2b": (630_766_080, 1_352_192),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_one_step_trains_the_adapters_alone_when_the_backbone_is_large(name: str) -> None:
    method = {"name": "adaptertune", "rank": 16}
    model = assemble(
        resolve_trial({"backbone": {"name": name, "weights": "random"}, "dataset": "digits", "method": method}),
        NUM_CLASSES,
    )
    width = model.head.in_features
    frozen_before, trainable = model.frozen_sha256(), model.trainable()
    num_backbone = sum(tensor.numel() for tensor in model.frozen.values())
    num_adapters = sum(parameter.numel() for parameter in trainable.values()) - (width + 1) * NUM_CLASSES
    assert (num_backbone, num_adapters) == BACKBONES[name]
    optimizer = torch.optim.AdamW(trainable.values(), lr=1e-3)
    pixels = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    loss = functional.cross_entropy(model(pixels), torch.tensor([0, 1]))
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        after = functional.cross_entropy(model(pixels), torch.tensor([0, 1]))
    assert after < loss  # one small step on the same two images
    assert model.frozen_sha256() == frozen_before
