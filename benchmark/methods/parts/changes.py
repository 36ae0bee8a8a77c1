"""Trained changes of frozen linear maps: where they sit in a block, and the module that adds them.

A block's maps are named as the papers name them: q, k, v, proj, fc1, fc2. timm fuses q, k and v into one matrix, so a
change of one of them acts on its third of the rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from benchmark.methods.parts.sites import SITES
from benchmark.streams import generator

if TYPE_CHECKING:
    from jaxtyping import Float

_OWNERS = {
    "qkv": ("attn", ("q", "k", "v")),
    "proj": ("attn", ("proj",)),
    "fc1": ("mlp", ("fc1",)),
    "fc2": ("mlp", ("fc2",)),
}
"""Where timm keeps each map, and the papers' names of what it holds."""


@dataclass(frozen=True)
class Site:
    """One linear map of the backbone.

    Attributes:
        block: Number of its block.
        name: `q`, `k`, `v`, `proj`, `fc1` or `fc2`.
        num_inputs: Its input width.
        num_outputs: Its output width.
    """

    block: int
    name: str
    num_inputs: int
    num_outputs: int

    def draws(self, seed: int, name: str) -> torch.Generator:
        """Return the stream `name` of this site, so that its start does not depend on which other sites exist."""
        return generator(seed, f"{name}/block{self.block}/{self.name}")


class Change(nn.Module, ABC):
    """A trained change of one linear map `y = W x + b`."""

    @abstractmethod
    def forward(
        self,
        x: Float[Tensor, "*batch inputs"],
        y: Float[Tensor, "*batch outputs"],
        weight: Float[Tensor, "outputs inputs"],
        bias: Float[Tensor, " outputs"] | None,
    ) -> Float[Tensor, "*batch outputs"]:
        """Return what is added to `y`, given the map's input, output, and frozen weight and bias."""

    @abstractmethod
    def merged(self, weight: Float[Tensor, "outputs inputs"]) -> Float[Tensor, "outputs inputs"]:
        """Return the weight of the one linear map that does the same; the bias stays."""


class ChangedLinear(nn.Module):
    """A frozen linear map with a change beside it, or beside some thirds of its rows."""

    def __init__(self, base: nn.Linear, changes: Mapping[str, Change], names: tuple[str, ...]) -> None:
        """Keep the map and its changes.

        Args:
            base: The frozen map.
            changes: By name; the rest of `names` stays as it is.
            names: The maps that `base` holds in equal shares of its rows, in their order.
        """
        super().__init__()
        self.base = base
        self.changes = nn.ModuleDict(changes)
        self.names = names

    def forward(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """Return the changed map's output."""
        outputs: list[Tensor] = []
        weights, biases = self._shares(self.base.weight), self._shares(self.base.bias)
        for name, y, weight, bias in zip(
            self.names, self.base(x).chunk(len(self.names), -1), weights, biases, strict=True
        ):
            outputs.append(y + self.changes[name](x, y, weight, bias) if name in self.changes else y)
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=-1)

    @torch.no_grad()
    def merged(self) -> Float[Tensor, "outputs inputs"]:
        """Return the weight that does alone what the frozen map and its changes do together."""
        shares = zip(self.names, self.base.weight.chunk(len(self.names)), strict=True)
        return torch.cat([self._change(name).merged(w) if name in self.changes else w for name, w in shares])

    def _change(self, name: str) -> Change:
        change = self.changes[name]
        assert isinstance(change, Change)
        return change

    def _shares(self, tensor: Tensor | None) -> tuple[Tensor, ...] | list[None]:
        return [None] * len(self.names) if tensor is None else tensor.chunk(len(self.names))


def change_linears(blocks: nn.Sequential, sites: str, make: Callable[[Site], Change]) -> None:
    """Put a change beside each map of `sites`, in every block.

    Args:
        blocks: The backbone's blocks.
        sites: A key of `SITES`.
        make: Makes one site's change, with its start values.
    """
    for number, block in enumerate(blocks):
        for attribute, (owner_name, names) in _OWNERS.items():
            owner = getattr(block, owner_name)
            base: nn.Linear = getattr(owner, attribute)
            num_outputs = base.out_features // len(names)
            chosen = [name for name in names if name in SITES[sites]]
            changes = {name: make(Site(number, name, base.in_features, num_outputs)) for name in chosen}
            if changes:
                setattr(owner, attribute, ChangedLinear(base, changes, names))


@torch.no_grad()
def merge_changes(backbone: nn.Module) -> None:
    """Write every change into the weight it stands beside, leaving the plain linear maps of the frozen backbone."""
    changed = [(name, module) for name, module in backbone.named_modules() if isinstance(module, ChangedLinear)]
    for name, module in changed:
        owner_name, _, attribute = name.rpartition(".")
        module.base.weight.copy_(module.merged())
        setattr(backbone.get_submodule(owner_name), attribute, module.base)
