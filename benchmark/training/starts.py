"""Start values that follow from the training images: computed once in a process, and shared by its trials.

They depend on the pretrained weights, the split and how images are presented, not on a trial's seed (unless weights or
split follow it), and every rank computes them alone, so no rank waits for another.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from benchmark.datasets.contract import open_dataset
from benchmark.errors import TrialError
from benchmark.methods.parts.discriminant import class_statistics, discriminant, ledoit_wolf_shrinkage
from benchmark.spec import BackboneSpec, DatasetSpec
from benchmark.training.attention import choose_attention
from benchmark.training.evaluation import Evaluator
from benchmark.training.images import Presentation, open_images
from benchmark.training.model import load_pinned

if TYPE_CHECKING:
    from jaxtyping import Float

MAX_KEPT_STARTS = 8


@functools.lru_cache(maxsize=MAX_KEPT_STARTS)
def lda_solution(
    backbone: BackboneSpec, dataset: DatasetSpec, seed: int, presentation: Presentation, evaluator: Evaluator
) -> tuple[Float[Tensor, "classes width"], Float[Tensor, " classes"]]:
    """Return weight and bias of the LDA head on the frozen features of all training images, without augmentation.

    The covariance is shrunk by Ledoit and Wolf's rule, as the method `lda_head` does by default.

    Raises:
        TrialError: A class has no training image.
    """
    opened = open_dataset(dataset, seed)
    images = open_images(opened, "train", presentation)
    counts = images.labels.bincount(minlength=opened.info.num_classes)
    if not bool((counts > 0).all()):
        absent = (counts == 0).nonzero().flatten().tolist()
        raise TrialError(f"head_init: lda needs a training image of every class; none of {absent[:10]}")
    model = load_pinned(backbone, seed).model.to(evaluator.device)
    choose_attention(model, evaluator)
    features = evaluator.outputs(model, images)
    statistics = class_statistics(features, images.labels, opened.info.num_classes)
    return discriminant(statistics, ledoit_wolf_shrinkage(statistics.within))


_starts: OrderedDict[str, dict[str, Tensor]] = OrderedDict()


def set_shared_start(model: nn.Module, key: str, compute: Callable[[], None]) -> None:
    """Give a model the start values that `compute` sets, computed the first time and copied afterwards.

    Args:
        model: Its trainable parameters are those that may change.
        key: Equal for models whose start values are equal.
        compute: Sets them in the model.
    """
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if key not in _starts:
        before = {name: parameter.detach().clone() for name, parameter in trainable.items()}
        compute()
        _starts[key] = {
            name: parameter.detach().cpu().clone()
            for name, parameter in trainable.items()
            if not torch.equal(parameter, before[name])
        }
        while len(_starts) > MAX_KEPT_STARTS:
            _starts.popitem(last=False)
        return
    with torch.no_grad():
        for name, value in _starts[key].items():
            trainable[name].copy_(value)
