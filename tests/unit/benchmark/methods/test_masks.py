"""Guards that random masks depend on (seed, step, image, layer) alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmark.certificate import small_subject
from benchmark.methods.contract import find_method
from benchmark.methods.parts.masks import Dropout, DropPath, MaskSource
from benchmark.training.model import adapt

KINDS = [Dropout, DropPath]
ROWS = torch.tensor([7, 3, 11, 40, 2, 19])
ONES = torch.ones(6, 5, 4)


def _masked(mask: Any, x: Tensor, rows: Tensor, seed: int = 0, step: int = 0) -> Tensor:
    with MaskSource(mask).drawn(seed, step, rows):
        masked: Tensor = mask(x)
    return masked


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("micro_batch_images", [1, 2, 4])
def test_mask_is_the_images_own_when_the_batch_is_split(kind: Any, micro_batch_images: int) -> None:
    mask = kind(0.5, "layer")
    parts = zip(ONES.split(micro_batch_images), ROWS.split(micro_batch_images), strict=True)
    assert torch.equal(torch.cat([_masked(mask, x, rows) for x, rows in parts]), _masked(mask, ONES, ROWS))


@pytest.mark.parametrize("kind", KINDS)
def test_mask_differs_when_seed_step_or_layer_does(kind: Any) -> None:
    rows, x = torch.arange(256), torch.ones(256, 2)
    reference = _masked(kind(0.5, "layer"), x, rows)
    assert not torch.equal(_masked(kind(0.5, "layer"), x, rows, seed=1), reference)
    assert not torch.equal(_masked(kind(0.5, "layer"), x, rows, step=1), reference)
    assert not torch.equal(_masked(kind(0.5, "other"), x, rows), reference)


@pytest.mark.parametrize("kind", KINDS)
def test_mask_drops_its_share_and_keeps_the_mean_when_many_are_drawn(kind: Any) -> None:
    masked = _masked(kind(0.25, "layer"), torch.ones(20_000, 1), torch.arange(20_000))
    # Four standard deviations of a Bernoulli(0.25) mean over 20 000 draws are 0.0122.
    assert (masked == 0).float().mean().item() == pytest.approx(0.25, abs=0.0122)
    assert masked.unique().tolist() == pytest.approx([0.0, 1 / 0.75])


def test_drop_path_keeps_or_drops_whole_images_when_drawn() -> None:
    masked = _masked(DropPath(0.5, "layer"), torch.ones(64, 5, 4), torch.arange(64))
    assert set(masked.sum(dim=(1, 2)).tolist()) == {0.0, 40.0}


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_masked_when_no_key_is_set(kind: Any) -> None:
    mask = kind(0.5, "layer").train()
    _masked(mask, ONES, ROWS)
    assert mask(ONES) is ONES


def test_two_masks_are_refused_when_they_share_a_stream() -> None:
    with pytest.raises(ValueError, match="share the streams layer"):
        MaskSource(nn.Sequential(Dropout(0.1, "layer"), DropPath(0.1, "layer")))


@pytest.mark.parametrize("name", ["adapter_plus", "adaptformer", "vpt_deep", "convpass"])
def test_outputs_are_equal_when_a_masked_batch_is_split(name: str) -> None:
    method = find_method(name)
    options = method.Options(**method.certified[0])
    model = adapt(small_subject(64).build(), method, options, 0, 10)
    for parameter in model.trainable().values():
        nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(0))
    pixels, masks = torch.randn(6, 3, 18, 18, generator=torch.Generator().manual_seed(1)), MaskSource(model)

    def outputs(part: Tensor, rows: Tensor) -> Tensor:
        with masks.drawn(0, 5, rows), torch.no_grad():
            logits: Tensor = model(part)
        return logits

    whole = outputs(pixels, ROWS)
    parts = torch.cat([outputs(part, rows) for part, rows in zip(pixels.split(2), ROWS.split(2), strict=True)])
    # Matrix products of another batch size round differently, by about 1e-6 of logits near 1.
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(model(pixels), whole, atol=1e-3)
