"""Guards that one pass gives the scores and the drift, and that an untouched start is not run through again."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmark.training.evaluation import Evaluator, feature_drift, scores_of
from benchmark.training.model import AdaptedClassifier
from benchmark.training.validation import Validation
from tests.trials import TensorBatches

NUM_IMAGES, WIDTH, NUM_CLASSES = 700, 6, 3
EVALUATOR = Evaluator(rank=0, world_size=1, batch_images=64, device=torch.device("cpu"))


class Images(TensorBatches):
    """Rows with classes, which count how many were asked for."""

    num_asked = 0

    @property
    def labels(self) -> Tensor:
        return torch.arange(len(self)) % NUM_CLASSES

    def batch(self, rows: Tensor, device: torch.device | str) -> Tensor:
        object.__setattr__(self, "num_asked", self.num_asked + len(rows))
        return super().batch(rows, device)


def _validation(adapter_scale: float) -> tuple[Validation, Images, nn.Module]:
    torch.manual_seed(0)
    pretrained, adapted = (nn.Sequential(nn.Flatten(), nn.Linear(WIDTH, WIDTH)) for _ in range(2))
    adapted.load_state_dict({name: value * (1 + adapter_scale) for name, value in pretrained.state_dict().items()})
    images = Images(torch.randn(NUM_IMAGES, WIDTH, 1, 1))

    def features(num_first: int | None) -> Tensor:
        return EVALUATOR.outputs(pretrained, TensorBatches(images.pixels), num_first)

    model: Any = AdaptedClassifier(adapted, WIDTH, NUM_CLASSES)
    return Validation(model, images, EVALUATOR, features), images, pretrained  # type: ignore[arg-type]


def test_scores_and_drift_come_from_one_pass_over_the_images() -> None:
    validation, images, pretrained = _validation(0.5)
    measured = validation.measure()
    assert images.num_asked == NUM_IMAGES
    with torch.no_grad():
        first = images.pixels[:128]
        drift = feature_drift(validation.model.backbone(first), pretrained(first))
        logits = validation.model(images.pixels)
    assert measured.scores == scores_of(logits, images.labels)
    assert abs(measured.feature_drift - drift) < 1e-6


def test_start_is_read_off_the_pretrained_features_when_nothing_has_changed_yet() -> None:
    validation, images, _ = _validation(0.0)
    measured = validation.measure_start()
    assert images.num_asked == 64  # one batch; the others' features are the pretrained ones, too
    assert measured == validation.measure()
    assert measured.feature_drift == 0.0


def test_start_is_measured_on_all_images_when_the_method_changes_it() -> None:
    validation, images, _ = _validation(0.5)
    measured = validation.measure_start()
    assert images.num_asked == 64 + NUM_IMAGES
    assert measured == validation.measure()
    assert measured.feature_drift != 0.0
