"""Guards scores, drift and batching of the evaluation; several ranks are in tests/distributed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmark.launch_plan import plan_launch
from benchmark.request import resolve_trial
from benchmark.training.evaluation import Evaluator, confusion_of, feature_drift, scores_of
from benchmark.training.open_trial import evaluation_batch_images
from tests.trials import TensorBatches

LOGITS = torch.tensor([[2.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 2.0]])
LABELS = torch.tensor([0, 0, 0, 2])
"""Class 0: two of three right; class 1: no image; class 2: one of one."""


def test_confusion_counts_each_image_once_when_classes_are_unequal() -> None:
    assert confusion_of(LOGITS, LABELS).tolist() == [[2, 1, 0], [0, 0, 0], [0, 0, 1]]


def test_scores_are_right_when_worked_by_hand() -> None:
    scores = scores_of(LOGITS, LABELS)
    assert scores.top1 == 0.75
    assert scores.mean_per_class == pytest.approx((2 / 3 + 1) / 2)  # a class without images has no accuracy
    assert scores.num_images == 4


def test_outputs_keep_their_order_when_the_batch_does_not_divide_the_set() -> None:
    pixels = torch.arange(7.0).view(7, 1)
    evaluator = Evaluator(rank=0, world_size=1, batch_images=3, device=torch.device("cpu"))
    assert torch.equal(evaluator.outputs(torch.nn.Identity(), TensorBatches(pixels)), pixels)


def test_model_returns_to_training_when_it_was_training() -> None:
    model = torch.nn.Dropout(0.5).train()
    evaluator = Evaluator(rank=0, world_size=1, batch_images=8, device=torch.device("cpu"))
    assert torch.equal(evaluator.outputs(model, TensorBatches(torch.ones(4, 2))), torch.ones(4, 2))
    assert model.training


def test_drift_is_zero_when_features_are_the_pretrained_ones() -> None:
    features = torch.randn(4, 8)
    assert feature_drift(features, features.clone()) == 0.0


def test_drift_is_one_when_features_are_orthogonal() -> None:
    assert feature_drift(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("backbone", "device", "expected"),
    [
        ("vit_nano", "cpu", 64),
        ({"name": "vit_tiny_patch16_224.augreg_in21k", "weights": "random", "image_size": 96}, "cpu", 64),
        ({"name": "vit_tiny_patch16_224.augreg_in21k", "weights": "random"}, "cpu", 16),
        ({"name": "vit_tiny_patch16_224.augreg_in21k", "weights": "random"}, "cuda", 256),
    ],
)
def test_fewer_images_are_evaluated_at_once_on_a_cpu_when_they_have_many_tokens(
    backbone: Any, device: Any, expected: int
) -> None:
    spec = resolve_trial({"backbone": backbone, "dataset": "digits", "method": "head_only"})
    assert evaluation_batch_images(spec, plan_launch(64, device=device)) == expected
