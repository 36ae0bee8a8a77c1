"""The contract every method keeps because it exists: a new file in `benchmark/methods` is tested here as it is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as functional

from benchmark.backbones.contract import BackboneInfo, build_backbone, find_backbone
from benchmark.methods.contract import BottleneckOptions, Method, find_method, method_names
from benchmark.request import resolve_trial
from benchmark.training.checkpoint import restore, snapshot
from benchmark.training.model import AdaptedClassifier, assemble

NUM_CLASSES = 10


def _variants() -> list[Any]:
    """Return every method, and the bottleneck ones at several ranks, placements and initialisations."""
    cases = []
    for name in method_names():
        grid: list[dict[str, Any]] = [{}]
        if issubclass(find_method(name).Options, BottleneckOptions):
            grid = [
                {"rank": 4},
                {"rank": 8, "placement": "last:2"},
                {"rank": 4, "init": "small"},
                {"rank": 4, "init": "lora"},
                {"rank": 4, "init": "houlsby"},
                {"rank": 4, "init": "bert"},
                {"rank": 4, "init": "xavier"},
            ]
        cases += [
            pytest.param({"name": name, **options}, id="-".join([name, *map(str, options.values())]))
            for options in grid
        ]
    return cases


def _assemble(method: dict[str, Any], seed: int = 0) -> AdaptedClassifier:
    spec = resolve_trial({"backbone": "vit_nano", "dataset": "digits", "method": method, "seed": seed})
    return assemble(spec, NUM_CLASSES)


def _options(method: dict[str, Any]) -> tuple[Method, Any]:
    found = find_method(method["name"])
    return found, found.Options(**{key: value for key, value in method.items() if key != "name"})


def _train(model: AdaptedClassifier, num_steps: int) -> list[float]:
    pixels, labels = _images()
    optimizer = torch.optim.AdamW(model.trainable().values(), lr=3e-3)
    losses = []
    for _ in range(num_steps):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(pixels), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def _images() -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(0)
    pixels = torch.randn(64, 3, 18, 18, generator=draws)
    return pixels, torch.randint(0, NUM_CLASSES, (64,), generator=draws)


@pytest.fixture(params=_variants())
def method(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return each variant in turn."""
    variant: dict[str, Any] = request.param
    return variant


def test_features_equal_the_frozen_models_at_step_0_when_the_method_claims_so(method: dict[str, Any]) -> None:
    found, options = _options(method)
    pixels, _ = _images()
    frozen = build_backbone("vit_nano", "bundled", 18)
    with torch.no_grad():
        features, reference = _assemble(method).backbone(pixels), frozen(pixels)
    assert features.shape == reference.shape
    assert torch.equal(features, reference) == found.is_identity_at_start(options)


def test_every_trainable_tensor_has_a_gradient_when_five_steps_are_done(method: dict[str, Any]) -> None:
    model = _assemble(method)
    before = snapshot(model.trainable())
    _train(model, num_steps=5)
    assert [name for name, value in model.trainable().items() if torch.equal(value, before[name])] == []


def test_frozen_bytes_are_unchanged_when_twenty_steps_are_done(method: dict[str, Any]) -> None:
    model = _assemble(method)
    before = model.frozen_sha256()
    _train(model, num_steps=20)
    assert model.frozen_sha256() == before


def test_frozen_and_trainable_are_the_whole_backbone_when_assembled(method: dict[str, Any]) -> None:
    model = _assemble(method)
    frozen_parameters = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    assert {id(parameter) for parameter in frozen_parameters} == {
        id(tensor) for tensor in model.frozen.values() if isinstance(tensor, torch.nn.Parameter)
    }


def test_count_equals_the_formula_when_parameters_are_counted(method: dict[str, Any]) -> None:
    found, options = _options(method)
    head = (64 + 1) * NUM_CLASSES
    counted = sum(parameter.numel() for parameter in _assemble(method).trainable().values())
    assert counted == found.count_parameters(options, find_backbone("vit_nano")) + head


def test_start_is_equal_when_the_seed_is(method: dict[str, Any]) -> None:
    first, second = (snapshot(_assemble(method, seed=3).trainable()) for _ in range(2))
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def test_start_differs_when_the_seed_does(method: dict[str, Any]) -> None:
    first, second = (_assemble(method, seed=seed) for seed in (3, 4))
    assert not torch.equal(first.head.weight, second.head.weight)


def test_outputs_are_equal_when_the_trained_tensors_are_put_into_a_new_model(method: dict[str, Any]) -> None:
    pixels, _ = _images()
    trained, fresh = _assemble(method), _assemble(method, seed=9)
    _train(trained, num_steps=3)
    restore(fresh.trainable(), snapshot(trained.trainable()))
    with torch.no_grad():
        assert torch.equal(trained(pixels), fresh(pixels))


def test_loss_falls_when_sixty_four_images_are_learned(method: dict[str, Any]) -> None:
    losses = _train(_assemble(method), num_steps=40)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", method_names())
def test_method_states_its_source_and_title(name: str) -> None:
    found = find_method(name)
    assert found.name == name
    assert found.title
    assert found.source


@pytest.mark.parametrize(
    ("width", "depth", "rank", "expected"),
    [
        (192, 12, 8, 39_264),
        (192, 12, 16, 76_224),
        (384, 12, 16, 152_256),
        (768, 12, 8, 156_768),
        (768, 12, 64, 1_189_632),
        (1024, 24, 16, 811_392),
        (1280, 32, 16, 1_352_192),
    ],
)
def test_adaptertune_count_meets_the_published_one_when_in_every_block(
    width: int, depth: int, rank: int, expected: int
) -> None:
    info = BackboneInfo("x", width, depth, 16, 224, 0, (0, 0, 0), (1, 1, 1), "bicubic", "", "")
    assert find_method("adaptertune").count_parameters(BottleneckOptions(rank=rank), info) == expected
