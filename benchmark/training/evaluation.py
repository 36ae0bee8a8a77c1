"""Evaluation in which every image counts exactly once, whatever the number of ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
import torch.distributed as distributed
import torch.nn.functional as functional
from torch import Tensor, nn

from benchmark.result import Scores

if TYPE_CHECKING:
    from jaxtyping import Float, Int

NUM_DRIFT_IMAGES = 128
"""The first images of the validation split, on which the drift from the pretrained features is measured."""


class Batches(Protocol):
    """Images from which batches are made on demand."""

    def __len__(self) -> int: ...

    def batch(self, rows: Int[Tensor, " batch"], device: torch.device | str) -> Float[Tensor, "batch 3 size size"]:
        """Return images as evaluation shows them, on the device."""
        ...


@dataclass(frozen=True)
class Evaluator:
    """How a rank evaluates: its share of the images, batch and device.

    Attributes:
        rank: This process's rank.
        world_size: Number of ranks; 1 needs no process group.
        batch_images: Images at once on this rank.
        device: Where the model is.
        autocast_dtype: The compute type under autocast; none for plain fp32.
        explicit_attention: Whether attention avoids the fused kernel where that is slower.
    """

    rank: int
    world_size: int
    batch_images: int
    device: torch.device
    autocast_dtype: torch.dtype | None = None
    explicit_attention: bool = True

    @torch.no_grad()
    def outputs(
        self, model: nn.Module, images: Batches, num_first_images: int | None = None
    ) -> Float[Tensor, "images out"]:
        """Return the model's outputs for all images or the first ones, in order and in fp32, on every rank's CPU.

        Each rank computes every world-size-th image; all ranks run equally many batches, since a sharded model's
        forward pass is a collective; what pads the last ones is dropped.
        """
        was_training = model.training
        model.eval()
        num_images = len(images) if num_first_images is None else min(num_first_images, len(images))
        share_length = -(-num_images // self.world_size)
        rows = torch.arange(self.rank, share_length * self.world_size, self.world_size).clamp(max=num_images - 1)
        share = torch.cat(
            [self._forward(model, images.batch(part, self.device)) for part in rows.split(self.batch_images)]
        )
        model.train(was_training)
        return self._gather(share)[:num_images].cpu()

    def _forward(self, model: nn.Module, pixels: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch out"]:
        with torch.autocast(self.device.type, self.autocast_dtype, enabled=self.autocast_dtype is not None):
            outputs: Tensor = model(pixels)
        return outputs.float()

    def _gather(self, share: Float[Tensor, "share out"]) -> Float[Tensor, "padded out"]:
        if self.world_size == 1:
            return share
        shares = [torch.empty_like(share) for _ in range(self.world_size)]
        distributed.all_gather(shares, share.contiguous())
        return torch.stack(shares, dim=1).flatten(0, 1)


def scores_of(logits: Float[Tensor, "images classes"], labels: Int[Tensor, " images"]) -> Scores:
    """Return the scores of one split's logits."""
    confusion = confusion_of(logits, labels)
    per_class = confusion.diagonal() / confusion.sum(dim=1)
    return Scores(
        top1=confusion.diagonal().sum().item() / len(labels),
        mean_per_class=per_class[~per_class.isnan()].mean().item(),
        loss=functional.cross_entropy(logits.double(), labels).item(),
        num_images=len(labels),
    )


def confusion_of(
    logits: Float[Tensor, "images classes"], labels: Int[Tensor, " images"]
) -> Int[Tensor, "classes classes"]:
    """Return how many images of each label (row) were given each class (column); the lowest class wins a tie."""
    num_classes = logits.shape[1]
    pairs = labels * num_classes + logits.argmax(dim=1)
    return torch.bincount(pairs, minlength=num_classes**2).view(num_classes, num_classes)


def feature_drift(features: Float[Tensor, "images width"], pretrained: Float[Tensor, "images width"]) -> float:
    """Return 1 - the mean cosine between adapted and pretrained features: 0 where they have the same direction."""
    if torch.equal(features, pretrained):
        return 0.0
    return 1.0 - functional.cosine_similarity(features.double(), pretrained.double(), dim=1).mean().item()
