"""Random masks that depend on (seed, step, image, layer) alone: the same for every world size, micro-batch and resume.

A mask module is inactive until `MaskSource.drawn` gives it a key, which the training loop does around each forward and
backward pass. So evaluation draws none, whatever mode the modules are in.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from benchmark.streams import stream_key, uniform

if TYPE_CHECKING:
    from jaxtyping import Float, Int


@dataclass(frozen=True)
class MaskKey:
    """What the masks of one micro-batch are drawn from.

    Attributes:
        seed: The trial's seed.
        step: 0-based optimiser step.
        rows: Each image's row in the training split.
    """

    seed: int
    step: int
    rows: Int[Tensor, " batch"]


class RandomMask(nn.Module, ABC):
    """Multiplies by a random mask of mean one; subclasses say which elements share a draw."""

    def __init__(self, probability: float, layer: str) -> None:
        """Start inactive.

        Args:
            probability: Of an element to become zero, in [0, 1).
            layer: Names this mask's stream; unique in the model.
        """
        super().__init__()
        self.probability = probability
        self.layer = layer
        self.key: MaskKey | None = None

    @abstractmethod
    def draws_per_image(self, x: Tensor) -> tuple[int, ...]:
        """Return the shape of one image's draws; it broadcasts against one image of `x`."""

    def forward(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """Return `x` masked and rescaled while a key is set, else `x` itself."""
        if self.key is None or self.probability == 0.0:
            return x
        shape = self.draws_per_image(x)
        num_draws = int(torch.Size(shape).numel())
        counters = self.key.rows[:, None] * num_draws + torch.arange(num_draws, device=x.device)
        draws = uniform(stream_key(self.key.seed, f"mask/{self.layer}/step{self.key.step}"), counters)
        kept = (draws >= self.probability).view(len(x), *shape)
        return x * (kept.to(x.dtype) / (1.0 - self.probability))

    def extra_repr(self) -> str:
        """Return what tells this mask from others."""
        return f"probability={self.probability}, layer={self.layer!r}"


class Dropout(RandomMask):
    """Zeroes single elements (Srivastava et al., 2014)."""

    def draws_per_image(self, x: Tensor) -> tuple[int, ...]:
        """Return one draw an element."""
        return tuple(x.shape[1:])


class DropPath(RandomMask):
    """Zeroes whole images: stochastic depth (arXiv 1603.09382)."""

    def draws_per_image(self, x: Tensor) -> tuple[int, ...]:
        """Return one draw an image."""
        return (1,) * (x.dim() - 1)


class MaskSource:
    """The masks of a model, switched on for one micro-batch at a time."""

    def __init__(self, model: nn.Module) -> None:
        """Find the model's masks.

        Raises:
            ValueError: Two of them draw from one stream.
        """
        self._masks = [module for module in model.modules() if isinstance(module, RandomMask)]
        layers = [mask.layer for mask in self._masks]
        repeated = sorted({layer for layer in layers if layers.count(layer) > 1})
        if repeated:
            raise ValueError(f"masks share the streams {', '.join(repeated)}")

    def __len__(self) -> int:
        """Return the number of masks."""
        return len(self._masks)

    @contextmanager
    def drawn(self, seed: int, step: int, rows: Int[Tensor, " batch"]) -> Iterator[None]:
        """Draw masks inside this block, for the images of these rows; the backward pass belongs inside too."""
        self._set(MaskKey(seed, step, rows))
        try:
            yield
        finally:
            self._set(None)

    def _set(self, key: MaskKey | None) -> None:
        for mask in self._masks:
            mask.key = key
