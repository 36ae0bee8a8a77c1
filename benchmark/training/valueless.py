"""A trial's model without values: shapes and types alone, so that counting on a huge one takes neither time nor memory.

The backbone is built on torch's device `meta`, and what runs on it runs on fake tensors, which say they lie on the CPU.
A GPU keeps the same: tokens stay fp32 under autocast on both, and both attend without keeping the attention's matrix.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

from torch._subclasses.fake_tensor import FakeTensorMode

from benchmark.backbones.contract import build_backbone, build_without_values
from benchmark.methods.contract import find_method
from benchmark.spec import TrialSpec
from benchmark.training.model import AdaptedClassifier, adapt


@contextlib.contextmanager
def valueless_model(spec: TrialSpec, num_classes: int) -> Iterator[AdaptedClassifier]:
    """Yield a trial's model on fake tensors; while this is entered, every new tensor is one.

    Args:
        spec: The trial.
        num_classes: Of the head.
    """
    model = _adapted(spec, num_classes)
    # Constants that a method keeps beside its parameters are real tensors.
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield model.to_empty(device="cpu")


def _adapted(spec: TrialSpec, num_classes: int) -> AdaptedClassifier:
    method, size = find_method(spec.method.name), spec.backbone.image_size_pixels
    options = method.Options.model_validate(spec.method.options)
    make = functools.partial(adapt, method=method, options=options, seed=spec.seed, num_classes=num_classes)
    try:
        return make(build_without_values(spec.backbone.name, size))
    except (RuntimeError, NotImplementedError):  # a method that computes with the weights when it is attached
        return make(build_backbone(spec.backbone.name, "random", size))
