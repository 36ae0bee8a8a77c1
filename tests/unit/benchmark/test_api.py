"""The Python API that needs no Ray: its examples run as printed, and what does not fit is refused."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml

from benchmark import api
from benchmark.backbones.contract import build_backbone, find_backbone
from benchmark.backbones.parts.facts import facts_of
from benchmark.errors import RequestError
from benchmark.methods.contract import method_names

MEASURED = ("width", "depth", "patch_size_pixels", "image_size_pixels", "num_parameters", "mlp_ratio", "num_heads")


def small_model(num_classes: int = 5) -> Any:
    return timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, num_classes=num_classes)


def test_examples_hold_when_run_as_printed() -> None:
    outcome = doctest.testmod(api)
    assert outcome.attempted > 10 and outcome.failed == 0


def test_facts_are_the_registrys_when_read_from_its_model() -> None:
    info = find_backbone("vit_nano")
    read = facts_of(build_backbone("vit_nano", "random", info.image_size_pixels))
    assert [getattr(read, name) for name in MEASURED] == [getattr(info, name) for name in MEASURED]


def test_facts_leave_out_the_head_when_the_model_has_one() -> None:
    assert facts_of(small_model(5)).num_parameters == facts_of(small_model(0)).num_parameters


def test_only_what_trains_moves_when_an_own_loop_takes_a_step() -> None:
    torch.manual_seed(0)
    model = api.adapt(small_model(), {"name": "lora", "rank": 2}, seed=1)
    frozen = model.frozen_sha256()
    before = {name: parameter.detach().clone() for name, parameter in model.trainable().items()}
    optimiser = torch.optim.AdamW(model.trainable().values(), lr=1e-2)
    for _ in range(2):  # LoRA's down-projections move from the second step on: B starts at zero
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(torch.randn(4, 3, 32, 32)), torch.arange(4)).backward()
        optimiser.step()
    assert model.frozen_sha256() == frozen
    assert [name for name, old in before.items() if torch.equal(old, model.trainable()[name])] == []


@pytest.mark.parametrize("method", [name for name in method_names() if name not in ("peft", "lda_head")])
def test_method_attaches_by_its_name_when_its_size_has_a_value(method: str) -> None:
    from benchmark.methods.contract import find_method

    model = api.adapt(small_model(), {"name": method, **find_method(method).certified[0]})
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 5)
    assert model.trainable()


@pytest.mark.parametrize(
    ("model", "method", "said"),
    [
        ("vit_nan", "head_only", "Did you mean 'vit_nano'"),
        (torch.nn.Linear(2, 2), "head_only", "must be a Vision Transformer of timm"),
        ("vit_nano", "head_only", "Give num_classes"),
        (small_model(), "loraa", "Did you mean 'lora'"),
        (small_model(), {"name": "lora", "rank": 4000}, "method.rank"),
        (small_model(), {"name": "lora", "rank": 4, "learning_rate": 0.1}, "method.learning_rate"),
        (small_model(), "lda_head", "starts from training images"),
    ],
    ids=["name", "kind", "classes", "method", "rank", "training", "images"],
)
def test_request_is_refused_when_a_part_does_not_fit(model: Any, method: Any, said: str) -> None:
    with pytest.raises(RequestError, match=said.replace("(", r"\(")):
        api.adapt(model, method)


def test_trial_is_the_same_when_given_as_a_file(tmp_path: Path, tiny_request: dict[str, Any]) -> None:
    file = tmp_path / "trial.yaml"
    file.write_text(yaml.safe_dump(tiny_request))
    epochs: list[int] = []
    outcomes = [
        api.run_trial(tiny_request, on_epoch=lambda record: epochs.append(record.epoch)),
        api.run_trial(str(file)),
    ]
    assert epochs == [0, 1, 2]
    assert outcomes[0].result.trial_id == outcomes[1].result.trial_id
    assert outcomes[0].checkpoint == outcomes[1].checkpoint
