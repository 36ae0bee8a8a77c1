"""Guards that the certificate catches planted faults, each by the item that is meant to."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmark.backbones.contract import BackboneInfo
from benchmark.certificate import certify, small_subject
from benchmark.methods.adaptertune import AdapterTune
from benchmark.methods.lora import Lora

OPTIONS = {"rank": 4}


class BothProjectionsZero(AdapterTune):
    """Zero-initialised in the way that lets no gradient through but the up-bias's."""

    def attach(self, backbone: Any, options: Any, seed: int) -> None:
        super().attach(backbone, options, seed)
        for block in backbone.blocks:
            nn.init.zeros_(block.adapter.down.weight)


class ParameterLeftOut(AdapterTune):
    """One tensor of the formula does not train."""

    def attach(self, backbone: Any, options: Any, seed: int) -> None:
        super().attach(backbone, options, seed)
        backbone.blocks[0].adapter.up.bias.requires_grad_(False)


class WrongCount(AdapterTune):
    """Forgets the biases of the down-projections."""

    def count_parameters(self, options: Any, backbone: BackboneInfo) -> int:
        return super().count_parameters(options, backbone) - options.rank * backbone.depth


class FrozenWeightTouchedAtAttach(AdapterTune):
    """Changes a pretrained weight when it is attached."""

    def attach(self, backbone: Any, options: Any, seed: int) -> None:
        super().attach(backbone, options, seed)
        backbone.norm.weight.mul_(1.5)


class FrozenWeightTouchedInTraining(AdapterTune):
    """Drifts a pretrained weight at every step that trains."""

    def attach(self, backbone: Any, options: Any, seed: int) -> None:
        super().attach(backbone, options, seed)

        def drift(module: nn.Module, inputs: Any, output: Tensor) -> None:
            with torch.no_grad():
                backbone.norm.bias.add_(1e-6 if output.requires_grad else 0.0)

        backbone.blocks[0].register_forward_hook(drift)


class NoIdentity(AdapterTune):
    """Claims an identity that one part in a million breaks."""

    def attach(self, backbone: Any, options: Any, seed: int) -> None:
        super().attach(backbone, options, seed)
        nn.init.constant_(backbone.blocks[0].adapter.up.bias, 1e-6)


class OwnRandomness(AdapterTune):
    """Draws its start from the global state."""

    def attach(self, backbone: Any, options: Any, seed: int) -> None:
        super().attach(backbone, options, seed)
        nn.init.xavier_uniform_(backbone.blocks[0].adapter.down.weight)


class HalfMerged(Lora):
    """Forgets the scale when merging."""

    def merge(self, backbone: Any, options: Any) -> None:
        for block in backbone.blocks:
            for addition in block.attn.qkv.additions.values():
                addition.scale *= 0.5
        super().merge(backbone, options)


@pytest.mark.parametrize(
    ("method", "item"),
    [
        (BothProjectionsZero(), "gradients"),
        (ParameterLeftOut(), "count"),
        (WrongCount(), "count"),
        (FrozenWeightTouchedAtAttach(), "frozen"),
        (FrozenWeightTouchedInTraining(), "frozen"),
        (NoIdentity(), "identity"),
        (OwnRandomness(), "seed"),
        (HalfMerged(), "merge"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_certificate_fails_in_the_item_when_a_fault_is_planted(method: Any, item: str) -> None:
    certificate = certify(method, OPTIONS, small_subject(64))
    assert item in {finding.item for finding in certificate.findings if finding.verdict == "fail"}


def test_certificate_says_why_when_an_item_does_not_apply() -> None:
    certificate = certify(AdapterTune(), OPTIONS, small_subject(64))
    reasons = {
        finding.item: finding.measured for finding in certificate.findings if finding.verdict == "not_applicable"
    }
    assert reasons == {"merge": "a nonlinearity stands between its projections"}
