"""The linear maps inside timm's blocks: finding them, replacing them, and low-rank additions to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from benchmark.methods.parts.bottleneck import fill
from benchmark.methods.parts.masks import Dropout
from benchmark.streams import generator

if TYPE_CHECKING:
    from jaxtyping import Float
    from timm.models.vision_transformer import VisionTransformer

PATHS: Mapping[str, str] = {
    "q": "attn.qkv",
    "k": "attn.qkv",
    "v": "attn.qkv",
    "qkv": "attn.qkv",
    "proj": "attn.proj",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
}
"""Where a block keeps the linear map of each site; q, k and v are the thirds of one fused map's rows."""


def rows_of(site: str, num_rows: int) -> tuple[int, int]:
    """Return the first row of a site in its linear map, and the row behind its last."""
    third = num_rows // 3
    thirds = {"q": (0, third), "k": (third, 2 * third), "v": (2 * third, num_rows)}
    return thirds.get(site, (0, num_rows))


def replace_modules(root: nn.Module, kind: type[nn.Module], replacement: Callable[[Any], nn.Module]) -> None:
    """Replace every module of a kind below `root`."""
    for parent in list(root.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, kind):
                setattr(parent, name, replacement(child))


def replace_at(block: nn.Module, path: str, replacement: Callable[[Any], nn.Module]) -> None:
    """Replace the submodule of a block at a dotted path."""
    parent, _, name = path.rpartition(".")
    holder = block.get_submodule(parent)
    setattr(holder, name, replacement(getattr(holder, name)))


class LowRankRows(nn.Module):
    """`s B A x` for some of a linear map's rows (LoRA, arXiv 2106.09685, equation 3)."""

    def __init__(self, base: nn.Linear, rows: tuple[int, int], rank: int, scale: float) -> None:
        """Start at zero size of effect; `initialise` draws A."""
        super().__init__()
        self.rows, self.scale = rows, scale
        self.down = nn.Parameter(torch.zeros(rank, base.in_features))
        self.up = nn.Parameter(torch.zeros(rows[1] - rows[0], rank))

    @torch.no_grad()
    def initialise(self, seed: int, stream: str) -> None:
        """Draw A from Kaiming-uniform with a = sqrt(5); B stays zero."""
        fill(self.down, "kaiming", generator(seed, stream))

    def forward(self, x: Float[Tensor, "batch tokens in"]) -> Float[Tensor, "batch tokens rows"]:
        """Return the addition to these rows."""
        return nn.functional.linear(nn.functional.linear(x, self.down), self.up) * self.scale


class LowRankLinear(nn.Module):
    """A frozen linear map with low-rank additions to blocks of its rows."""

    def __init__(self, base: nn.Linear, additions: dict[str, LowRankRows], dropout: nn.Module) -> None:
        """Keep the map as it is; the additions, by rising rows, read its input behind a dropout."""
        super().__init__()
        self.base = base
        self.additions = nn.ModuleDict(additions)
        self.dropout = dropout

    def forward(self, x: Float[Tensor, "batch tokens in"]) -> Float[Tensor, "batch tokens out"]:
        """Return the map's output with the additions on their rows."""
        y: Tensor = self.base(x)
        x = self.dropout(x)
        pieces, position = [], 0
        for addition in self._parts():
            first, end = addition.rows
            pieces += [y[..., position:first], y[..., first:end] + addition(x)]
            position = end
        return torch.cat([*pieces, y[..., position:]], dim=-1)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """Return the map with the additions written into its weight."""
        for addition in self._parts():
            first, end = addition.rows
            self.base.weight[first:end] += addition.scale * (addition.up @ addition.down)
        return self.base

    def _parts(self) -> Iterator[Any]:
        return iter(self.additions.values())


def put_low_rank(
    backbone: VisionTransformer,
    numbers: tuple[int, ...],
    sites: tuple[str, ...],
    rank: int,
    scale: float,
    dropout: float,
    seed: int,
) -> None:
    """Add low-rank maps at these sites of these blocks.

    Each draws from a stream named after its block and site.
    """
    for number in numbers:
        for path in dict.fromkeys(PATHS[site] for site in sites):
            names = [site for site in sites if PATHS[site] == path]

            def adapted(base: nn.Linear, names: list[str] = names, layer: str = f"lora/block{number}") -> nn.Module:
                additions = {}
                for name in names:
                    additions[name] = LowRankRows(base, rows_of(name, base.out_features), rank, scale)
                    additions[name].initialise(seed, f"{layer}/{name}")
                mask = Dropout(dropout, f"{layer}/{names[0]}/dropout") if dropout else nn.Identity()
                return LowRankLinear(base, additions, mask)

            replace_at(backbone.blocks[number], path, adapted)
