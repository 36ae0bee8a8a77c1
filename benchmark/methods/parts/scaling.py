"""A scale and a shift a channel, behind an operation (SSF, arXiv 2210.08823)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from benchmark.errors import RequestError
from benchmark.methods.parts.linears import replace_at
from benchmark.streams import generator

if TYPE_CHECKING:
    from jaxtyping import Float
    from timm.models.vision_transformer import VisionTransformer

SCALE_STD = 0.02
"""Of both draws, around 1 and around 0."""

PATHS_IN_BLOCK = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")


class Scaled(nn.Module):
    """`gamma * base(x) + beta`."""

    def __init__(self, base: nn.Module, num_channels: int, draws: torch.Generator) -> None:
        """Keep the operation as it is and draw its scale and shift."""
        super().__init__()
        self.base = base
        self.scale = nn.Parameter(1.0 + SCALE_STD * torch.randn(num_channels, generator=draws))
        self.shift = nn.Parameter(SCALE_STD * torch.randn(num_channels, generator=draws))

    def forward(self, x: Float[Tensor, "batch tokens in"]) -> Float[Tensor, "batch tokens out"]:
        """Return the scaled and shifted output."""
        y: Tensor = self.base(x)
        return y * self.scale + self.shift


def put_scales(backbone: VisionTransformer, seed: int) -> None:
    """Scale the patch embedding, the operations of every block and the last LayerNorm."""
    root: Any = backbone
    root.patch_embed.norm = Scaled(root.patch_embed.norm, backbone.embed_dim, generator(seed, "ssf/patch_embed"))
    for number, block in enumerate(backbone.blocks):
        for path in PATHS_IN_BLOCK:

            def scaled(base: nn.Module, stream: str = f"ssf/block{number}/{path}") -> Scaled:
                return Scaled(base, _num_outputs(base), generator(seed, stream))

            replace_at(block, path, scaled)
    name = last_norm_name(backbone)
    setattr(root, name, Scaled(getattr(root, name), backbone.embed_dim, generator(seed, "ssf/norm")))


@torch.no_grad()
def merge_scales(backbone: VisionTransformer) -> None:
    """Write every scale and shift into the operation before it.

    Raises:
        RequestError: The patch embedding has no bias that could take its shift.
    """
    root: Any = backbone
    embedding = root.patch_embed
    scaled = embedding.norm
    target = embedding.proj if isinstance(scaled.base, nn.Identity) else scaled.base
    _absorb(target, scaled)
    embedding.norm = scaled.base
    for block in backbone.blocks:
        for path in PATHS_IN_BLOCK:
            replace_at(block, path, _absorbed)
    replace_at(root, last_norm_name(backbone), _absorbed)


def last_norm_name(backbone: VisionTransformer) -> str:
    """Return where the last LayerNorm is: `fc_norm` where the tokens are averaged before it, else `norm`."""
    return "norm" if isinstance(backbone.fc_norm, nn.Identity) else "fc_norm"


def _absorbed(scaled: Scaled) -> nn.Module:
    _absorb(scaled.base, scaled)
    return scaled.base


def _absorb(target: Any, scaled: Scaled) -> None:
    if target.bias is None:
        rule = f"a {type(target).__name__} of this backbone has no bias that could take SSF's shift"
        raise RequestError("method.name", "ssf", rule, "Export it unmerged.")
    target.weight.mul_(scaled.scale.view(-1, *[1] * (target.weight.dim() - 1)))
    target.bias.mul_(scaled.scale).add_(scaled.shift)


def _num_outputs(operation: Any) -> int:
    return int(operation.weight.shape[0])
