"""Validation of one trial: its scores, and the drift of its features, from one pass over the images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from benchmark.result import Scores
from benchmark.training.evaluation import NUM_DRIFT_IMAGES, Evaluator, feature_drift, scores_of
from benchmark.training.transfer import to_device

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from benchmark.training.images import SplitImages
    from benchmark.training.model import AdaptedClassifier
    from benchmark.training.prefix import PrefixedImages

SMALL_MULTIPLE = 4
"""A split of up to so many times the drift's images is run through the pretrained backbone as a whole at once."""


@dataclass(frozen=True)
class Validated:
    """What one pass over the validation images measured.

    Attributes:
        scores: Of the classifier.
        feature_drift: 1 - the mean cosine to the pretrained features, on the first images.
    """

    scores: Scores
    feature_drift: float


@dataclass(frozen=True)
class Validation:
    """A trial's model, its validation images, and what the pretrained backbone makes of these.

    Attributes:
        model: The classifier.
        images: Pixels, or what a frozen prefix made of them.
        evaluator: This rank's.
        pretrained: Returns the pretrained features of the first so many images, or of all for none, from the batches
            that the evaluator would make of them.
    """

    model: AdaptedClassifier
    images: SplitImages | PrefixedImages
    evaluator: Evaluator
    pretrained: Callable[[int | None], Float[Tensor, "images width"]]

    def scores(self) -> Scores:
        """Return the classifier's scores as it is now."""
        return scores_of(self.evaluator.outputs(self.model, self.images), self.images.labels)

    def measure(self) -> Validated:
        """Measure the classifier as it is now."""
        return self._measured(self.evaluator.outputs(_FeaturesAndLogits(self.model), self.images))

    def measure_start(self) -> Validated:
        """Measure the classifier before its first step.

        A zero-initialised adapter changes nothing yet. Where the first batch's features are the pretrained ones to the
        bit, so are the others, which trials of one backbone then share: only the head is run on them.
        """
        outputs, num_first = _FeaturesAndLogits(self.model), min(self._global_batch, len(self.images))
        first = self._features(self.evaluator.outputs(outputs, self.images, num_first))
        if not torch.equal(first, self._pretrained_first[:num_first]):
            return self.measure()
        behind = _FeaturesAndLogits(self.model, is_given_features=True)
        return self._measured(self.evaluator.outputs(behind, _Features(self.pretrained(None))))

    @property
    def _num_first(self) -> int:
        """Whole batches of all ranks, at least the drift's images: rows of other batches may differ in the last bit."""
        return min(-(-NUM_DRIFT_IMAGES // self._global_batch) * self._global_batch, len(self.images))

    @property
    def _global_batch(self) -> int:
        return self.evaluator.batch_images * self.evaluator.world_size

    @property
    def _pretrained_first(self) -> Float[Tensor, "images width"]:
        is_small = len(self.images) <= SMALL_MULTIPLE * self._num_first
        return self.pretrained(None if is_small else self._num_first)[: self._num_first]

    def _features(self, outputs: Float[Tensor, "images outputs"]) -> Float[Tensor, "images width"]:
        return outputs[:, : self.model.head.in_features]

    def _measured(self, outputs: Float[Tensor, "images outputs"]) -> Validated:
        features, logits = self._features(outputs), outputs[:, self.model.head.in_features :]
        drift = feature_drift(features[:NUM_DRIFT_IMAGES], self._pretrained_first[:NUM_DRIFT_IMAGES])
        return Validated(scores_of(logits, self.images.labels), drift)


class _FeaturesAndLogits(nn.Module):
    """A classifier that returns its features in front of its logits, [batch, width + classes]."""

    def __init__(self, model: AdaptedClassifier, is_given_features: bool = False) -> None:
        super().__init__()
        self.model = model
        self.is_given_features = is_given_features

    def forward(self, inputs: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch outputs"]:
        features = inputs if self.is_given_features else self.model.features(inputs)
        logits = self.model.head(features)
        return torch.cat([features.float(), logits.float()], dim=1)


@dataclass(frozen=True)
class _Features:
    """Features [N, width] in the place of images."""

    features: Float[Tensor, "images width"]

    def __len__(self) -> int:
        return len(self.features)

    def batch(self, rows: Int[Tensor, " batch"], device: torch.device | str) -> Float[Tensor, "batch width"]:
        return to_device(self.features[rows], device)
