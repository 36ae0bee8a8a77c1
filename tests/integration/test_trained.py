"""Guards what comes after a trial: its files give the same outputs back, on timm's model, merged, and on new images."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer

from benchmark.backbones.contract import build_backbone
from benchmark.backbones.vit_nano import MLP_RATIO, NUM_HEADS
from benchmark.datasets.contract import open_dataset
from benchmark.errors import MissingError, RequestError
from benchmark.export import MERGED_FILE, TrainedTrial, load, read_trained, write_export
from benchmark.launch_plan import plan_launch
from benchmark.prediction import find_images, predict
from benchmark.request import resolve_trial
from benchmark.result import TrialOutcome
from benchmark.standalone import run_trial, write_outcome
from tuning.cli.app import run

NUM_IMAGES = 12


def train(method: dict[str, Any]) -> TrialOutcome:
    training = {"epochs": 2, "warmup_epochs": 1, "global_batch_images": 128, "learning_rate": 3.0e-3}
    spec = resolve_trial({"backbone": "vit_nano", "dataset": "digits", "method": method, "training": training})
    return run_trial(spec, plan_launch(128))


@pytest.fixture(scope="module")
def adapter() -> TrialOutcome:
    return train({"name": "adaptertune", "rank": 4})


@pytest.fixture(scope="module")
def lora() -> TrialOutcome:
    return train({"name": "lora", "rank": 4})


@pytest.fixture
def images(tmp_path: Path, adapter: TrialOutcome) -> Path:
    """The first test images as files."""
    items = open_dataset(TrainedTrial.of(adapter).spec.dataset, 0).items("test")
    (tmp_path / "images").mkdir()
    for row in range(NUM_IMAGES):
        items.decode(row).save(tmp_path / "images" / f"{row:02d}.png")
    return tmp_path / "images"


def logits_of_the_test(outcome: TrialOutcome) -> np.ndarray:
    with np.load(io.BytesIO(outcome.predictions or b"")) as arrays:
        return arrays["logits"]


def test_labels_of_files_are_those_of_the_test_when_the_images_are_the_same(
    adapter: TrialOutcome, images: Path
) -> None:
    predictions = list(predict(TrainedTrial.of(adapter), find_images(images)))
    expected = torch.from_numpy(logits_of_the_test(adapter)[:NUM_IMAGES]).softmax(dim=1).max(dim=1)
    assert [one.labels for one in predictions] == [(str(label),) for label in expected.indices.tolist()]
    # Another batch size sums in another order.
    probabilities = torch.tensor([one.probabilities[0] for one in predictions])
    assert torch.allclose(probabilities, expected.values, atol=1e-5)


def test_outputs_are_the_trained_ones_when_loaded_onto_a_plain_model(adapter: TrialOutcome, tmp_path: Path) -> None:
    trained = TrainedTrial.of(adapter)
    write_export(trained, tmp_path / "exported")
    model = load(build_backbone("vit_nano", "bundled", 18), tmp_path / "exported")
    pixels = torch.randn(3, 3, 18, 18, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(model(pixels), trained.build()(pixels))


def test_loading_is_refused_when_the_backbone_has_other_weights(adapter: TrialOutcome, tmp_path: Path) -> None:
    write_export(TrainedTrial.of(adapter), tmp_path / "exported")
    with pytest.raises(RequestError, match=r"was trained on vit_nano"):
        load(build_backbone("vit_nano", "random", 18), tmp_path / "exported")


def test_merged_weights_load_in_plain_timm_when_the_method_merges(lora: TrialOutcome, tmp_path: Path) -> None:
    trained = TrainedTrial.of(lora)
    write_export(trained, tmp_path, merge=True)
    plain = VisionTransformer(
        img_size=18, patch_size=6, embed_dim=64, depth=6, num_heads=NUM_HEADS, mlp_ratio=MLP_RATIO, num_classes=10
    )
    plain.load_state_dict(load_file(tmp_path / MERGED_FILE), strict=True)
    pixels = torch.randn(3, 3, 18, 18, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = trained.build()(pixels), plain.eval()(pixels)
    # The certificate's tolerance for merging, relative to the largest output.
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


def test_merging_is_refused_when_the_method_has_no_closed_form(adapter: TrialOutcome, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot be merged"):
        write_export(TrainedTrial.of(adapter), tmp_path / "exported", merge=True)
    assert not (tmp_path / "exported").exists()


def test_card_names_backbone_scores_and_terms_when_exported(adapter: TrialOutcome, tmp_path: Path) -> None:
    write_export(TrainedTrial.of(adapter), tmp_path)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    test, provenance = adapter.result.test, adapter.result.provenance
    assert test is not None and provenance is not None
    for fact in ("`vit_nano`", "Apache-2.0", provenance.weights_sha256, f"{100 * test.top1:.2f} %", "load("):
        assert fact in card


def test_output_of_a_single_trial_can_be_read_when_it_was_trained_without_a_study(
    lora: TrialOutcome, tmp_path: Path
) -> None:
    write_outcome(lora, tmp_path)
    assert read_trained(tmp_path).tensors.keys() == TrainedTrial.of(lora).tensors.keys()
    with pytest.raises(MissingError, match="holds no trained trial"):
        read_trained(tmp_path / "elsewhere")


def test_unreadable_files_are_named_and_the_others_labelled_when_predicting(
    adapter: TrialOutcome, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_export(TrainedTrial.of(adapter), tmp_path / "exported")
    (images / "broken.png").write_bytes(b"no image")
    status = run(["predict", str(tmp_path / "exported"), str(images), "--top", "3", "--json"])
    captured = capsys.readouterr()
    rows = json.loads(captured.out)["predictions"]
    assert status == 1
    assert "broken.png" in captured.err and "no known format" in captured.err.replace("\n", " ")
    assert [len(row["labels"]) for row in rows] == [3] * NUM_IMAGES + [0]
    assert rows[-1]["error"].startswith(str(images / "broken.png"))
