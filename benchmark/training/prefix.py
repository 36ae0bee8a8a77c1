"""The frozen part of a model in front of its first trained tensor: run once an image, kept for epochs and trials.

What it gives for an image never changes while images are shown without augmentation, so training and evaluation can
start from it; where training images are at most mirrored, each has two such outputs. They are kept for every trial that
comes after: on the device or in this process's memory, else in a memory-mapped file of the cache folder, each up to the
plan's budget of bytes. On CPUs what takes long to compute is in a file from the start: the ranks of a node compute it
together, hold it once, and later studies find it. A split that fits into neither is not kept, and nothing else changes.
The result is the same either way.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torch import Tensor, nn

from benchmark.cache_folder import has_room
from benchmark.methods.parts.blocks import AdaptedBlock
from benchmark.methods.parts.masks import RandomMask
from benchmark.training.evaluation import Evaluator
from benchmark.training.images import SplitImages, is_mirrored
from benchmark.training.model import AdaptedClassifier, Depth
from benchmark.training.operations import OperationCounter
from benchmark.training.prefix_files import mapped_outputs
from benchmark.training.transfer import to_device

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from numpy.typing import NDArray
    from timm.models.vision_transformer import VisionTransformer

BEHIND_BLOCKS = ("norm.", "fc_norm.")
"""Parts of timm's Vision Transformer that run after the blocks."""

LEAST_SHARED_FLOPS = 4 * 10**10
"""From which on a CPU's work is shared through a file: a quarter of a second or more."""


@dataclass(frozen=True)
class PrefixedImages:
    """One split whose images are what the frozen prefix made of them.

    Attributes:
        images: The split.
        outputs: The prefix's outputs [N, tokens, width], or the pooled features [N, width].
        mirrored_outputs: The same of the mirrored images; none where they are not needed.
    """

    images: SplitImages
    outputs: Tensor
    mirrored_outputs: Tensor | None = None

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    @property
    def identities(self) -> NDArray:
        """Names [N]."""
        return self.images.identities

    @property
    def labels(self) -> Int[Tensor, " images"]:
        """Classes [N]."""
        return self.images.labels

    @property
    def source(self) -> int:
        """A number that is equal where batches of the same rows are equal."""
        return id(self.outputs)

    def batch(self, rows: Int[Tensor, " batch"], device: torch.device | str) -> Float[Tensor, "batch ..."]:
        """Return the prefix's outputs of these images, on the device."""
        return to_device(self.outputs[to_device(rows, self.outputs.device)], device)

    def training_batch(
        self, rows: Int[Tensor, " batch"], augmentation: str, seed: int, epoch: int, device: torch.device | str
    ) -> Float[Tensor, "batch ..."]:
        """Return the prefix's outputs of these images as the augmentation, `none` or `flip`, shows them."""
        if augmentation == "none":
            return self.batch(rows, device)
        if augmentation != "flip" or self.mirrored_outputs is None:
            raise AssertionError(f"augmented images ({augmentation}) have no output that was kept")
        rows = to_device(rows, self.outputs.device)
        mirrored = is_mirrored(seed, epoch, rows).view(-1, *[1] * (self.outputs.dim() - 1))
        return to_device(torch.where(mirrored, self.mirrored_outputs[rows], self.outputs[rows]), device)


@dataclass(frozen=True)
class MirroredImages:
    """One split, every image mirrored.

    Attributes:
        images: The split.
    """

    images: SplitImages

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def batch(self, rows: Int[Tensor, " batch"], device: torch.device | str) -> Float[Tensor, "batch 3 size size"]:
        """Return images as evaluation shows them, mirrored, on the device."""
        return self.images.batch(rows, device).flip(-1)


def frozen_depth(model: AdaptedClassifier) -> Depth | None:
    """Return how far the model is frozen from the input on; none where that is not past the first block's front.

    Frozen means: nothing there trains or draws masks, and every module is as it was before the method was attached.
    """
    backbone, untouched = cast("VisionTransformer", model.backbone), model.untouched
    named = {name: parameter for name, parameter in backbone.named_parameters() if parameter.requires_grad}
    in_front = [name for name in named if not name.startswith(("blocks.", *BEHIND_BLOCKS))]
    others = [module for name, module in backbone.named_children() if name != "blocks"]
    if (
        in_front
        or "forward" in vars(backbone)
        or not all(is_frozen(other, untouched, strict=False) for other in others)
    ):
        return None
    blocks = list(backbone.blocks.children())
    num_blocks = next((i for i, block in enumerate(blocks) if not is_frozen(block, untouched)), len(blocks))
    if not named and num_blocks == len(blocks):
        return Depth(num_blocks, is_pooled=True)
    if type(backbone).__name__ != "VisionTransformer":  # a subclass may order its parts otherwise
        return None
    first = blocks[num_blocks] if num_blocks < len(blocks) else None
    behind = isinstance(first, AdaptedBlock) and not first.is_parallel and is_frozen(first.block, untouched)
    return Depth(num_blocks, with_next_block=behind) if num_blocks or behind else None


def is_frozen(part: nn.Module, untouched: frozenset[int], strict: bool = True) -> bool:
    """Return whether a part of a model always gives the same output for the same input.

    Args:
        part: Of the model.
        untouched: Identities of the modules that were there before a method was attached.
        strict: Whether its parameters must be frozen, and all its modules untouched; else it only draws no masks and
            nobody looks on.
    """
    modules = list(part.modules())
    if any(isinstance(module, RandomMask) for module in modules):
        return False
    if any(module._forward_hooks or module._forward_pre_hooks for module in modules):
        return False
    if not strict:
        return True
    trains = any(parameter.requires_grad for parameter in part.parameters())
    return not trains and all(id(module) in untouched for module in modules)


class Prefixed(Protocol):
    """What has a frozen part in front."""

    def prefix(self, pixels: Float[Tensor, "batch 3 size size"], depth: Depth) -> Float[Tensor, "batch ..."]:
        """Return what the part up to a depth makes of images."""
        ...


@dataclass(frozen=True)
class PrefixBudget:
    """Where outputs may lie.

    Attributes:
        memory_bytes: That all outputs in this process may take.
        file_bytes: That one split's outputs may take in the cache folder.
    """

    memory_bytes: int
    file_bytes: int


@dataclass(frozen=True)
class PrefixKey:
    """What outputs follow from.

    Attributes:
        in_process: Equal where weights, images and their presentation are equal, within this process.
        content: The hashes of weights and images that make it so everywhere; read only for files.
        description: For people, as JSON values.
    """

    in_process: str
    content: Callable[[], str]
    description: dict[str, Any]

    def mirrored(self) -> PrefixKey:
        """Return the key of the same images, mirrored."""
        description = {**self.description, "mirrored": True}
        return PrefixKey(f"{self.in_process}/mirrored", self.content, description)


class PrefixCache:
    """Outputs of frozen prefixes that this process uses; in memory the ones used longest ago go first."""

    def __init__(self) -> None:
        """Start empty."""
        self._outputs: OrderedDict[str, Tensor] = OrderedDict()
        self._mapped: dict[str, Tensor] = {}

    def clear(self) -> None:
        """Forget everything; files stay."""
        self._outputs.clear()
        self._mapped.clear()

    def prefixed(
        self,
        model: Prefixed,
        depth: Depth,
        images: SplitImages,
        key: PrefixKey,
        evaluator: Evaluator,
        budget: PrefixBudget,
        with_mirrored: bool = False,
    ) -> SplitImages | PrefixedImages:
        """Return a split behind the prefix, computed or kept; as it is where it is too large to keep.

        Args:
            model: On the evaluator's device.
            depth: How far it is frozen.
            images: The split.
            key: What the outputs follow from; the depth is added to it.
            evaluator: Of this rank alone.
            budget: Where the outputs may lie.
            with_mirrored: Whether the mirrored images' outputs are kept, too.
        """
        run = functools.partial(self._run, model, depth, evaluator=evaluator)
        outputs = self._kept(run, images, key, depth, evaluator, budget)
        mirrored = None
        if outputs is not None and with_mirrored:
            mirrored = self._kept(run, MirroredImages(images), key.mirrored(), depth, evaluator, budget)
        if outputs is None or (with_mirrored and mirrored is None):
            return images
        return PrefixedImages(images, outputs, mirrored)

    def _kept(
        self,
        run: Callable[[SplitImages | MirroredImages, Tensor], Tensor],
        images: SplitImages | MirroredImages,
        key: PrefixKey,
        depth: Depth,
        evaluator: Evaluator,
        budget: PrefixBudget,
    ) -> Tensor | None:
        """Return the outputs of all images; none where they are too many."""
        place = f"{key.in_process}/{depth}"
        if place not in self._outputs and place not in self._mapped:
            with OperationCounter() as counter:
                first = run(images, torch.arange(1))
            num_images, num_bytes, outputs_of = len(images), first.nbytes * len(images), functools.partial(run, images)
            takes_long = evaluator.device.type == "cpu" and counter.flops * num_images >= LEAST_SHARED_FLOPS
            fits_memory, fits_file = num_bytes <= budget.memory_bytes, num_bytes <= budget.file_bytes
            if fits_file and (not fits_memory or (takes_long and has_room(num_bytes))):
                whole_key, shape = f"{place}/{key.content()}", (num_images, *first.shape[1:])
                self._mapped[place] = mapped_outputs(
                    whole_key, key.description, shape, first.dtype, outputs_of, evaluator.batch_images
                )
            elif fits_memory:
                self._make_room(budget.memory_bytes - num_bytes)
                batches = torch.arange(num_images).split(evaluator.batch_images)
                self._outputs[place] = torch.cat([outputs_of(rows) for rows in batches])
            else:
                return None
        if place in self._mapped:
            return self._mapped[place]
        self._outputs.move_to_end(place)
        return self._outputs[place]

    @staticmethod
    @torch.no_grad()
    def _run(
        model: Prefixed,
        depth: Depth,
        images: SplitImages | MirroredImages,
        rows: Int[Tensor, " batch"],
        evaluator: Evaluator,
    ) -> Tensor:
        dtype, device = evaluator.autocast_dtype, evaluator.device
        pixels = images.batch(rows, device)
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            return model.prefix(pixels, depth)

    def _make_room(self, num_bytes: int) -> None:
        while self._outputs and sum(output.nbytes for output in self._outputs.values()) > num_bytes:
            self._outputs.popitem(last=False)


CACHE = PrefixCache()
"""This process's."""
