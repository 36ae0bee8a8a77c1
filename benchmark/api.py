"""The part of the public Python API that needs no Ray: adapt a model of yours, or train one trial.

`tuning.api` has these too, with whole studies and their results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark import standalone
from benchmark.backbones.contract import build_backbone, find_backbone
from benchmark.errors import RequestError
from benchmark.methods.contract import Method
from benchmark.request import read_trial, resolve_method, resolve_with_launch
from benchmark.result import EpochRecord, TrialOutcome

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

    from benchmark.training.model import AdaptedClassifier

__all__ = ["adapt", "run_trial"]


def adapt(
    model: VisionTransformer | str,
    method: str | Mapping[str, Any],
    *,
    num_classes: int | None = None,
    seed: int = 0,
) -> AdaptedClassifier:
    """Freeze a Vision Transformer, attach an adaptation method to it and give it a new head, to train as you like.

    Example:
        >>> import torch
        >>> from benchmark.api import adapt
        >>> adapted = adapt("vit_nano", {"name": "adaptertune", "rank": 8}, num_classes=10)
        >>> adapted(torch.zeros(2, 3, 18, 18)).shape
        torch.Size([2, 10])
        >>> sum(parameter.numel() for parameter in adapted.trainable().values())
        7226

        A model of timm works as well, here one with random weights:

        >>> import timm
        >>> small = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, num_classes=5)
        >>> sorted(adapt(small, "head_only").trainable())
        ['head.bias', 'head.weight']

    Args:
        model: A timm `VisionTransformer`, changed in place; or a backbone's pinned name, which is loaded with its own
            weights at its own image size.
        method: A method's name, or a mapping with `name` and the method's options; `adaptertune list methods` shows
            them.
        num_classes: Of the new head; none: as many as the model's own head has.
        seed: From 0; names the streams from which new weights are drawn.

    Returns:
        The classifier: pixels [batch, 3, size, size], normalised as the backbone's pretraining did, to logits
        [batch, num_classes]. `trainable()` names the parameters that train; all others are frozen.

    Raises:
        RequestError: The method or an option is refused, does not fit the model, or starts from training images; the
            model is no Vision Transformer of timm, or has no head to take the number of classes from.
        MissingError: The named backbone's weights are not here.
    """
    from benchmark.backbones.parts.facts import facts_of
    from benchmark.training.model import adapt as attach

    chosen, options, training = resolve_method(method)
    for name, value in training.items():
        rule = "a training field is your optimiser's matter here"
        raise RequestError(f"method.{name}", value, rule, "Leave it out, or train with run_trial.")
    _refuse_start_from_images(chosen, options)
    backbone = _own_backbone(model) if isinstance(model, str) else model
    problems = chosen.check(options, facts_of(backbone))
    if problems:
        raise RequestError.of([problem.below("method") for problem in problems])
    classes = _num_classes(backbone, num_classes)
    backbone.reset_classifier(0)
    return attach(backbone, chosen, options, seed, classes)


def run_trial(
    trial: Mapping[str, Any] | str | Path, on_epoch: Callable[[EpochRecord], None] | None = None
) -> TrialOutcome:
    """Train one trial in this process, without Ray, and return its record, test predictions and trained tensors.

    Example:
        >>> from benchmark.api import run_trial
        >>> from benchmark.export import TrainedTrial
        >>> trial = {"backbone": "vit_nano", "dataset": "digits", "method": "head_only", "seed": 0}
        >>> outcome = run_trial({**trial, "training": {"epochs": 1, "warmup_epochs": 0}})
        >>> outcome.result.status.value, outcome.result.test.num_images
        ('COMPLETED', 360)
        >>> model = TrainedTrial.of(outcome).build()

    Args:
        trial: The keys of a trial's YAML file, or its path.
        on_epoch: Called with each epoch's record, that of the untouched start first.

    Raises:
        RequestError: A key, a value or a combination is refused.
        MissingError: Weights or data are not here.
        TrialError: The loss is no longer a finite number, or the trial cannot go on.
    """
    spec, plan = resolve_with_launch(trial) if isinstance(trial, Mapping) else read_trial(Path(trial))
    return standalone.run_trial(spec, plan, on_epoch)


def _own_backbone(name: str) -> VisionTransformer:
    info = find_backbone(name, "model")
    return build_backbone(info.name, info.default_weights, info.image_size_pixels)


def _num_classes(backbone: VisionTransformer, asked: int | None) -> int:
    classes = backbone.num_classes if asked is None else asked
    if classes < 1:
        found = "a model without a head" if asked is None else asked
        raise RequestError("num_classes", found, "a head has one class or more", "Give num_classes.")
    return int(classes)


def _refuse_start_from_images(method: Method, options: Any) -> None:
    if method.fits_head or method.uses_images_at_start(options):
        rule = "with these options the method starts from training images, which a model alone does not have"
        raise RequestError("method", method.name, rule, "Train it with run_trial or run_study.")
