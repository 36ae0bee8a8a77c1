"""Guards that a wrong request is refused before anything runs: where, what was found, the rule, the nearest name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmark.errors import RequestError
from benchmark.request import read_trial, resolve_trial

ADAPTER = {"name": "adaptertune", "rank": 4}


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        pytest.param({"sede": 1}, ["sede", "no such key", "'seed'"], id="unknown key"),
        pytest.param({"training": {"epoch": 3}}, ["training.epoch", "'epochs'"], id="unknown nested key"),
        pytest.param({"method": {**ADAPTER, "plcement": "all"}}, ["method.plcement", "'placement'"], id="option"),
        pytest.param({"method": {"name": "adaptertun"}}, ["method.name", "'adaptertune'"], id="unknown method"),
        pytest.param({"backbone": "vit_nan"}, ["backbone", "'vit_nano'"], id="unknown backbone"),
        pytest.param({"dataset": "digit"}, ["dataset", "'digits'"], id="unknown data set"),
        pytest.param({"protocol": "fairr"}, ["protocol.name", "'fair'"], id="unknown protocol"),
        pytest.param(
            {"protocol": {"name": "fair", "augmentation": "flip"}},
            ["protocol.augmentation", "'flip'", "another class", "none or shift"],
            id="mirrored digits",
        ),
        pytest.param({"seed": "0"}, ["seed", "'0'", "integer"], id="wrong type"),
        pytest.param({"seed": -1}, ["seed", "-1", "greater than or equal to 0"], id="negative seed"),
        pytest.param({"method": {**ADAPTER, "rank": 0}}, ["method.rank", "0", "at least|greater"], id="rank 0"),
        pytest.param({"method": {**ADAPTER, "rank": 65}}, ["method.rank", "65", "1 to 64"], id="rank above width"),
        pytest.param({"method": {**ADAPTER, "rank": True}}, ["method.rank", "True"], id="a truth value as rank"),
        pytest.param({"method": {**ADAPTER, "placement": "last:7"}}, ["method.placement", "6 blocks"], id="depth"),
        pytest.param({"method": {**ADAPTER, "placement": "blocks:6"}}, ["method.placement", "0 to 5"], id="block 6"),
        pytest.param({"method": {**ADAPTER, "placement": "lst:2"}}, ["method.placement", "all, every:K"], id="form"),
        pytest.param({"method": {**ADAPTER, "init": "zeros"}}, ["method.init", "'zero'"], id="unknown init"),
        pytest.param({"method": {**ADAPTER, "scale": 0.0}}, ["method.scale", "greater than 0"], id="scale 0"),
        pytest.param({"method": {**ADAPTER, "dropout": 1.0}}, ["method.dropout", "less than 1"], id="dropout 1"),
        pytest.param(
            {"method": {**ADAPTER, "residual_add": "before"}},
            ["method.residual_add", "site: attention"],
            id="block add",
        ),
        pytest.param(
            {"method": {**ADAPTER, "site": "mlp", "form": "parallel", "residual_add": "before"}},
            ["method.residual_add", "form: sequential"],
            id="parallel add",
        ),
        pytest.param({"method": {**ADAPTER, "site": "mlp"}}, ["method.site", "site: block"], id="two names for a site"),
        pytest.param({"method": {"name": "lora", "rank": 4, "sites": "q,x"}}, ["method.sites", "fc1"], id="lora site"),
        pytest.param({"method": {"name": "lora", "rank": 4, "sites": "q,qkv"}}, ["method.sites"], id="site twice"),
        pytest.param({"method": {"name": "apla", "fraction": 0.0}}, ["method.fraction", "greater than 0"], id="apla"),
        pytest.param({"training": {"epochs": 2, "warmup_epochs": 2}}, ["training", "smaller than epochs"], id="warmup"),
        pytest.param({"training": {"learning_rate": 0}}, ["training.learning_rate", "greater than 0"], id="rate 0"),
        pytest.param(
            {"backbone": {"name": "vit_nano", "image_size": 32}},
            ["image_size", "30 and 36"],
            id="patch does not divide",
        ),
    ],
)
def test_request_is_refused_with_its_field_when_wrong(
    tiny_request: dict[str, Any], change: dict[str, Any], parts: list[str]
) -> None:
    with pytest.raises(RequestError) as refused:
        resolve_trial({**tiny_request, **change})
    message = str(refused.value)
    assert [part for part in parts if not any(choice in message for choice in part.split("|"))] == []


def test_batch_is_refused_when_the_workers_do_not_divide_it(tmp_path: Path) -> None:
    path = tmp_path / "trial.yaml"
    path.write_text(
        "{backbone: vit_nano, dataset: digits, method: head_only, training: {global_batch_images: 63}, "
        "launch: {num_workers: 2}}"
    )
    with pytest.raises(RequestError, match=r"training\.global_batch_images: found 63; .* 2 x 1.*nearest that fits: 64"):
        read_trial(path)


def test_every_problem_is_named_when_several_fields_are_wrong(tiny_request: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as refused:
        resolve_trial({**tiny_request, "seed": -1, "sede": 0})
    assert len(refused.value.problems) == 2


def test_method_overrides_training_when_it_names_a_training_field(tiny_request: dict[str, Any]) -> None:
    spec = resolve_trial({**tiny_request, "method": {**ADAPTER, "learning_rate": 5e-4}})
    assert spec.training.learning_rate == 5e-4
    assert "learning_rate" not in spec.method.options


def test_number_is_read_when_written_without_a_dot(tmp_path: Path) -> None:
    path = tmp_path / "trial.yaml"
    path.write_text("{backbone: vit_nano, dataset: digits, method: head_only, training: {learning_rate: 1e-3}}")
    spec, _ = read_trial(path)
    assert spec.training.learning_rate == 1e-3


def test_file_is_refused_when_a_key_is_given_twice(tmp_path: Path) -> None:
    path = tmp_path / "trial.yaml"
    path.write_text("seed: 1\nseed: 2\n")
    with pytest.raises(RequestError, match="'seed' is given twice"):
        read_trial(path)


def test_file_is_refused_when_it_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot be read"):
        read_trial(tmp_path / "absent.yaml")
