"""Pretraining: the same recipe gives the same bytes, and the shipped weights are those of the shipped recipe."""

import logging
from pathlib import Path

import pytest
import torch
import yaml
from pydantic import ValidationError
from safetensors import safe_open
from safetensors.torch import load_file

import benchmark.backbones
from benchmark.errors import RequestError
from benchmark.pretraining.pretrain import build_backbone, learning_rate_factor, pretrain, write_weights
from benchmark.pretraining.recipe import PretrainingRecipe, load_recipe, recipe_path

SHIPPED_WEIGHTS = Path(str(benchmark.backbones.__file__)).parent / "weights" / "vit_nano.safetensors"
MAX_SHIPPED_BYTES = 4 * 1024 * 1024


@pytest.fixture
def shipped_recipe() -> PretrainingRecipe:
    return load_recipe(recipe_path("vit_nano"))


@pytest.fixture
def tiny_recipe(shipped_recipe: PretrainingRecipe) -> PretrainingRecipe:
    values = shipped_recipe.model_dump()
    values["architecture"] |= {"width": 8, "num_heads": 2, "num_blocks": 2}
    values["optimisation"] |= {"num_steps": 4, "batch_size": 8, "num_warmup_steps": 2}
    return PretrainingRecipe.model_validate(values)


def test_files_are_byte_identical_when_the_recipe_runs_twice(tiny_recipe: PretrainingRecipe, tmp_path: Path) -> None:
    write_weights(pretrain(tiny_recipe), tmp_path / "first.safetensors", tiny_recipe)
    torch.rand(5)  # another state of the global generator must not matter
    write_weights(pretrain(tiny_recipe), tmp_path / "second.safetensors", tiny_recipe)
    assert (tmp_path / "first.safetensors").read_bytes() == (tmp_path / "second.safetensors").read_bytes()


def test_weights_differ_when_the_seed_differs(tiny_recipe: PretrainingRecipe) -> None:
    other_recipe = tiny_recipe.model_copy(update={"seed": tiny_recipe.seed + 1})
    assert not torch.equal(pretrain(tiny_recipe)["cls_token"], pretrain(other_recipe)["cls_token"])


def test_threads_and_global_generator_are_restored_when_pretraining_ends(tiny_recipe: PretrainingRecipe) -> None:
    num_threads_before, state_before = torch.get_num_threads(), torch.get_rng_state()
    pretrain(tiny_recipe)
    assert torch.get_num_threads() == num_threads_before
    assert torch.equal(torch.get_rng_state(), state_before)


def test_progress_is_reported_when_the_last_step_is_done(
    tiny_recipe: PretrainingRecipe, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    reports: list[tuple[int, int, float]] = []
    pretrain(tiny_recipe, lambda step, num_steps, mean_loss: reports.append((step, num_steps, mean_loss)))
    assert [report[:2] for report in reports] == [(4, 4)]
    assert reports[0][2] > 0.0
    assert "step 4 of 4" in caplog.text


def test_learning_rate_rises_then_falls_when_the_steps_pass(tiny_recipe: PretrainingRecipe) -> None:
    factors = [learning_rate_factor(step, tiny_recipe.optimisation) for step in range(5)]
    assert factors == pytest.approx([0.5, 1.0, 1.0, 0.5, 0.0])


def test_no_temporary_file_is_left_when_weights_are_written(tmp_path: Path) -> None:
    write_weights({"weight": torch.ones(2)}, tmp_path / "weights.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["weights.safetensors"]


def test_no_temporary_file_is_left_when_the_move_fails(tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").mkdir()
    with pytest.raises(OSError):
        write_weights({"weight": torch.ones(2)}, tmp_path / "weights.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["weights.safetensors"]


def test_shipped_weights_load_strictly_when_the_shipped_recipe_builds_the_backbone(
    shipped_recipe: PretrainingRecipe,
) -> None:
    backbone = build_backbone(shipped_recipe)
    backbone.load_state_dict(load_file(SHIPPED_WEIGHTS), strict=True)
    side = shipped_recipe.architecture.image_size_pixels
    features = backbone.eval()(torch.zeros(2, 3, side, side))
    assert features.shape == (2, shipped_recipe.architecture.width)
    assert bool(features.isfinite().all())


def test_shipped_weights_carry_the_recipe_hash_when_their_metadata_is_read(shipped_recipe: PretrainingRecipe) -> None:
    with safe_open(SHIPPED_WEIGHTS, framework="pt") as weights:
        assert weights.metadata() == {"recipe": f"vit_nano sha256:{shipped_recipe.hash()}"}
    assert SHIPPED_WEIGHTS.stat().st_size <= MAX_SHIPPED_BYTES


def test_recipe_is_refused_when_a_key_is_unknown(shipped_recipe: PretrainingRecipe, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(shipped_recipe.model_dump() | {"learning_rat": 0.1}), encoding="utf-8")
    with pytest.raises(RequestError, match="learning_rat"):
        load_recipe(path)


@pytest.mark.parametrize("text", ["name: [", "just words", ""])
def test_recipe_is_refused_when_the_file_is_no_mapping(text: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RequestError):
        load_recipe(path)


def test_recipe_is_refused_when_its_name_is_unknown() -> None:
    with pytest.raises(RequestError, match="vit_nano"):
        recipe_path("vit_nanno")


def test_recipe_is_refused_when_the_patch_does_not_divide_the_image(shipped_recipe: PretrainingRecipe) -> None:
    values = shipped_recipe.model_dump()
    values["architecture"]["patch_size_pixels"] = 5
    with pytest.raises(ValidationError, match="divide"):
        PretrainingRecipe.model_validate(values)


def test_recipe_stays_as_it_is_when_a_field_is_assigned(shipped_recipe: PretrainingRecipe) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        shipped_recipe.seed = 1
