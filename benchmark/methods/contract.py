"""What every adaptation method keeps: its options, its checks, how it attaches, and how many parameters it trains.

Method files import torch only inside functions, so that a study is expanded and checked without it; the modules that
several methods share are in `parts/`.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator

from benchmark.backbones.contract import BackboneInfo
from benchmark.errors import Problem, RequestError
from benchmark.methods.parts.placement import PLACEMENT_RULE, blocks_of, is_placement, normalised
from benchmark.registry import member, member_names
from benchmark.spec import Frozen, Scalar

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer
    from torch import Tensor, nn


@dataclass(frozen=True)
class LabelledFeatures:
    """The frozen features of one split, on the CPU.

    Attributes:
        features: float32 tensor [images, width].
        labels: int64 tensor [images].
    """

    features: Tensor
    labels: Tensor


class NoOptions(Frozen):
    """The options of a method that has none."""


class RankedOptions(Frozen):
    """The options of methods that have a rank and sit in some of the blocks."""

    rank: int = Field(ge=1, description="width of the bottleneck; at most the backbone's width")
    placement: str = Field(default="all", description="in which blocks an adapter sits; blocks count from 0")

    @field_validator("placement")
    @classmethod
    def _placement_is_readable(cls, placement: str) -> str:
        if not is_placement(placement):
            raise ValueError(PLACEMENT_RULE)
        return normalised(placement)

    def check(self, backbone: BackboneInfo) -> list[Problem]:
        """Return what does not fit the backbone: a rank above its width, a block beyond its depth."""
        problems = []
        if self.rank > backbone.width:
            rule = f"a rank above the backbone's width {backbone.width} is no bottleneck"
            problems.append(Problem("rank", self.rank, rule, f"Allowed: 1 to {backbone.width}."))
        try:
            blocks_of(self.placement, backbone.depth)
        except ValueError as error:
            problems.append(Problem("placement", self.placement, str(error)))
        return problems


class BottleneckOptions(RankedOptions):
    """What every bottleneck adapter has; `parts/axes.py` adds the further axes."""

    init: Literal["zero", "small", "lora", "houlsby", "bert", "xavier"] = Field(
        default="zero", description="how the projections start; zero and lora start at the pretrained function"
    )


class Method(ABC):
    """An adaptation method: stateless; one instance serves every trial.

    Attributes:
        name: Public name: the file's.
        title: As shown to people.
        source: The paper.
        revision: Raised when the method's numbers change.
        Options: The typed options.
        certified: Options that the certificate examines; where there is a rank, the first one is also counted at twice
            its rank.
        size: The option that sets how many parameters train, which a study's `match` solves; none where it cannot be
            chosen.
        fits_head: Whether one call of `fit_head` takes the place of all training epochs.
        not_mergeable: Why the trained method cannot be written into a plain backbone; empty where `merge` does so.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    revision: ClassVar[int] = 1
    Options: ClassVar[type[Frozen]] = NoOptions
    certified: ClassVar[tuple[Mapping[str, Any], ...]] = ({},)
    not_mergeable: ClassVar[str] = "it has no closed form in the backbone's own weights"
    size: ClassVar[str | None] = None
    fits_head: ClassVar[bool] = False

    def check(self, options: Any, backbone: BackboneInfo) -> list[Problem]:
        """Return the ways in which the options do not fit the backbone."""
        return options.check(backbone) if isinstance(options, RankedOptions) else []

    def size_option(self, options: Mapping[str, Any]) -> str | None:
        """Return the option that `match` solves, given the other options; none where the size cannot be chosen."""
        return self.size

    def sizes(self, name: str, backbone: BackboneInfo) -> Sequence[Scalar]:
        """Return the values that the size option may take on a backbone; those that `check` refuses are passed over."""
        return range(1, backbone.width + 1)

    def not_applicable(self, options: Any) -> Mapping[str, str]:
        """Return the certificate's items that cannot apply, each with its reason."""
        return {}

    def rewrites_frozen_weights(self, options: Any) -> bool:
        """Whether attaching changes pretrained tensors that then stay frozen, such as taking singular vectors out."""
        return False

    def packs(self, options: Any) -> bool:
        """Whether trials can share the frozen blocks' passes: nothing but adapters around or inside blocks trains."""
        return False

    def merge(self, backbone: VisionTransformer, options: Any) -> None:
        """Write the trained adaptation into the backbone's own weights, leaving a plain timm model.

        Raises:
            RequestError: The method cannot be merged, or not into this backbone.
        """
        rule = f"{self.title} cannot be merged: {self.not_mergeable}"
        raise RequestError("method.name", self.name, rule)

    @abstractmethod
    def is_identity_at_start(self, options: Any) -> bool:
        """Whether the features at step 0 equal the frozen model's bit for bit."""

    @abstractmethod
    def attach(self, backbone: VisionTransformer, options: Any, seed: int) -> None:
        """Put the adaptation into the backbone and mark what trains with `requires_grad`; all else is frozen already.

        Args:
            backbone: Without a head; every parameter frozen.
            options: An instance of `Options`.
            seed: Names the streams that new weights are drawn from.
        """

    def start_from_images(  # noqa: B027 -- most methods have nothing to do here
        self, backbone: VisionTransformer, options: Any, batches: Sequence[Tensor]
    ) -> None:
        """Set the start values that follow from training images; by default there are none.

        Called once a run, after attaching and before the first step; also before a resume, whose weights then count.

        Args:
            backbone: With the method attached, on its device.
            options: An instance of `Options`.
            batches: Normalised training images [batch, 3, size, size] without augmentation; they depend on the data
                set and its split alone.
        """

    def uses_images_at_start(self, options: Any) -> bool:
        """Whether `start_from_images` does something, so that the images need to be read."""
        return False

    def fit_head(self, head: nn.Linear, options: Any, train: LabelledFeatures, validation: LabelledFeatures) -> None:
        """Set the head in closed form from the frozen features of all images; only where `fits_head` is true."""
        raise AssertionError(f"{self.name} does not fit its head in closed form: only such methods are asked to")

    @abstractmethod
    def count_parameters(self, options: Any, backbone: BackboneInfo) -> int:
        """Return the number of trained parameters without the head, from the method's formula."""


def method_names() -> tuple[str, ...]:
    """Return the public names of all methods."""
    return member_names(__package__)


@functools.cache
def find_method(name: str, where: str = "method") -> Method:
    """Return the method of that name.

    Raises:
        RequestError: There is none; the nearest names are given.
    """
    module = member(__package__, name, where)
    method: Method | None = getattr(module, "METHOD", None)
    if method is None or method.name != name:
        found = "no METHOD" if method is None else f"METHOD.name = {method.name!r}"
        raise RequestError(f"{module.__name__}", found, f"a method's file holds METHOD, whose name is {name!r}")
    return method
