"""Guards that a trial's result does not depend on how it is spread: one worker with accumulation, or two workers.

Two real gloo processes, started by torchrun as a user would.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

TRIAL = """
backbone: vit_nano
dataset: digits
method: {{name: adaptertune, rank: 4, init: small, dropout: 0.2, drop_path: 0.2}}
protocol: {{name: fair, augmentation: shift}}
training: {{epochs: 2, warmup_epochs: 1, global_batch_images: 50, learning_rate: 3.0e-3}}
launch: {launch}
"""
OTHER = TRIAL.replace("rank: 4, init: small", "rank: 8, placement: last:2").replace("3.0e-3", "1.0e-3") + "seed: 1\n"


LAUNCHER = [sys.executable, "-m", "torch.distributed.run", "--standalone"]


def _train(folder: Path, launch: str, num_ranks: int) -> tuple[dict[str, Any], dict[str, Any]]:
    folder.mkdir()
    (folder / "trial.yaml").write_text(TRIAL.format(launch=launch))
    program = [sys.executable] if num_ranks == 1 else [*LAUNCHER, f"--nproc-per-node={num_ranks}"]
    command = [*program, "-m", "benchmark", str(folder / "trial.yaml"), "--output-dir", str(folder)]
    subprocess.run(command, check=True, capture_output=True, timeout=240)
    return _read(folder)


def _train_beside_another(folder: Path, launch: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train the trial in one pass with one of other options, learning rate and seed, on two ranks."""
    folder.mkdir()
    texts = [TRIAL.format(launch=launch), OTHER.format(launch=launch)]
    files = [folder / f"{number}.yaml" for number in range(len(texts))]
    for file, text in zip(files, texts, strict=True):
        file.write_text(text)
    program = [*LAUNCHER, "--nproc-per-node=2", "-m", "tests.distributed.pack_ranks"]
    command = [*program, str(folder), *map(str, files)]
    subprocess.run(command, check=True, capture_output=True, timeout=240, cwd=Path(__file__).parents[2])
    return _read(folder / "0")


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    with np.load(folder / "predictions.npz") as archive:
        return json.loads((folder / "result.json").read_text()), dict(archive)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("world-size")
    return {
        "one worker": _train(folder / "one", "{num_workers: 1, accumulation_steps: 2}", num_ranks=1),
        "two workers": _train(folder / "two", "{num_workers: 2, accumulation_steps: 1}", num_ranks=2),
        "pack": _train_beside_another(folder / "pack", "{num_workers: 2, accumulation_steps: 1}"),
    }


@pytest.mark.parametrize("spread", ["two workers", "pack"])
def test_losses_are_equal_when_two_workers_do_the_work_of_two_accumulation_steps(
    results: dict[str, Any], spread: str
) -> None:
    one, two = results["one worker"][0], results[spread][0]
    assert len(one["first_step_losses"]) == 50  # 1,257 images in batches of 50, two epochs
    assert two["first_step_losses"] == pytest.approx(one["first_step_losses"], abs=1e-5)  # fp32 sums in another order


def test_trial_is_the_same_trial_when_spread_otherwise(results: dict[str, Any]) -> None:
    assert results["one worker"][0]["trial_id"] == results["two workers"][0]["trial_id"]


@pytest.mark.parametrize("spread", ["two workers", "pack"])
def test_predictions_are_equal_when_spread_otherwise(results: dict[str, Any], spread: str) -> None:
    one, two = results["one worker"][1], results[spread][1]
    assert np.array_equal(one["identity"], two["identity"])
    different = (one["logits"].argmax(1) != two["logits"].argmax(1)).mean()
    assert different <= 0.002  # at most 0.2 % of the test predictions


def test_every_image_counts_once_when_the_set_does_not_divide_by_the_workers(results: dict[str, Any]) -> None:
    result, predictions = results["two workers"]
    assert result["test"]["num_images"] == len(set(predictions["identity"])) == 360
    assert sum(map(sum, result["confusion"])) == 360
    assert result["validation"]["num_images"] == 180
