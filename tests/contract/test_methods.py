"""The contract every method keeps because it exists: a new file in `benchmark/methods` is certified here as it is."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from benchmark.backbones.contract import BackboneInfo, find_backbone
from benchmark.certificate import Certificate, certify, small_subject
from benchmark.launch_plan import plan_launch
from benchmark.methods.contract import find_method, method_names
from benchmark.request import resolve_trial
from benchmark.training.estimate import estimate

ITEMS = ("identity", "gradients", "frozen", "count", "seed", "checkpoint", "loss", "merge")
MILLION = 1.0e6


@functools.cache
def _certificates(name: str) -> tuple[Certificate, ...]:
    """Examine each of the method's certified options once, on a small random backbone of two blocks."""
    method, subject = find_method(name), small_subject(64)
    return tuple(certify(method, options, subject) for options in method.certified)


@pytest.mark.parametrize("item", ITEMS)
@pytest.mark.parametrize("name", method_names())
def test_certificate_holds_when_a_method_exists(name: str, item: str) -> None:
    findings = [
        (dict(certificate.options), finding.measured)
        for certificate in _certificates(name)
        for finding in certificate.findings
        if finding.item == item and finding.verdict == "fail"
    ]
    assert findings == []


@pytest.mark.parametrize("name", method_names())
def test_certificate_lists_every_item_when_a_method_exists(name: str) -> None:
    assert {tuple(finding.item for finding in certificate.findings) for certificate in _certificates(name)} == {ITEMS}


@pytest.mark.parametrize("name", method_names())
def test_method_states_its_source_and_title(name: str) -> None:
    found = find_method(name)
    assert found.name == name
    assert found.title
    assert found.source


def _count(name: str, width: int, depth: int, **options: Any) -> int:
    info = BackboneInfo("x", width, depth, 16, 224, 0, (0, 0, 0), (1, 1, 1), "bicubic", "", "")
    method = find_method(name)
    return method.count_parameters(method.Options(**options), info)


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
    assert _count("adaptertune", width, depth, rank=rank) == expected


@pytest.mark.parametrize(
    ("name", "options", "published_millions", "digits"),
    [
        # Published with the methods for ViT-B, in millions, without a head.
        ("pfeiffer", {"rank": 8}, 0.157, 3),
        ("lora", {"rank": 8}, 0.29, 2),
        ("bitfit", {}, 0.10, 2),
        ("ssf", {}, 0.206, 3),
        ("hydra", {"rank": 2}, 0.240, 3),
    ],
)
def test_count_meets_the_published_one_when_the_backbone_is_vit_b(
    name: str, options: dict[str, Any], published_millions: float, digits: int
) -> None:
    assert round(_count(name, 768, 12, **options) / MILLION, digits) == published_millions


WIDTH, RANK = 96, 4


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("houlsby", {"train_layer_norms": False}, 2 * (2 * WIDTH * RANK + RANK + WIDTH)),
        ("houlsby", {}, 2 * (2 * WIDTH * RANK + RANK + WIDTH) + 4 * WIDTH),
        ("pfeiffer", {"layer_norm": "in"}, 2 * WIDTH * RANK + RANK + 3 * WIDTH),
        ("adapter_plus", {}, 2 * WIDTH * RANK + RANK + 2 * WIDTH),
        ("adaptformer", {}, 2 * WIDTH * RANK + RANK + WIDTH),
        ("lora", {}, 4 * WIDTH * RANK),
        ("lora", {"sites": "qkv"}, 4 * WIDTH * RANK),
        ("lora", {"sites": "qkv,proj,fc1,fc2"}, 16 * WIDTH * RANK),
        ("hydra", {}, 11 * WIDTH * RANK + 4 * RANK + 4 * WIDTH),
        ("convpass", {}, 2 * (2 * WIDTH * RANK + 2 * RANK + WIDTH + 9 * RANK**2)),
    ],
)
def test_count_is_the_papers_formula_when_one_block_is_adapted(
    name: str, options: dict[str, Any], expected: int
) -> None:
    assert _count(name, WIDTH, 1, rank=RANK, **options) == expected


@pytest.mark.parametrize("name", method_names())
def test_cost_is_estimated_when_a_method_exists(name: str) -> None:
    method = find_method(name)
    asked = {"name": name, **method.certified[0]}
    spec = resolve_trial({"backbone": "vit_nano", "dataset": "digits", "method": asked})
    counted = estimate(spec, plan_launch(spec.training.global_batch_images))
    options = method.Options.model_validate(spec.method.options)
    head = 10 * 64 + 10
    assert counted.num_trainable_parameters == head + method.count_parameters(options, find_backbone("vit_nano"))
    assert counted.training_flops_per_image >= counted.forward_flops_per_image > 0
