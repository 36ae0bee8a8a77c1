"""Learned tokens among a block's tokens (VPT, arXiv 2203.12119)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from benchmark.methods.parts.masks import Dropout
from benchmark.methods.parts.prompt_options import PromptOptions
from benchmark.streams import generator

if TYPE_CHECKING:
    from jaxtyping import Float
    from timm.models.vision_transformer import VisionTransformer


class Prompts(nn.Module):
    """Inserts learned tokens behind the prefix tokens."""

    def __init__(self, backbone: VisionTransformer, options: PromptOptions, seed: int, layer: str) -> None:
        """Draw the prompts from the paper's uniform law, from a stream named after the layer."""
        super().__init__()
        embedding: Any = backbone.patch_embed
        num_patch_inputs = 3 * math.prod(embedding.patch_size)
        bound = math.sqrt(6.0 / (num_patch_inputs + backbone.embed_dim))
        self.tokens = nn.Parameter(torch.empty(options.num_prompts, backbone.embed_dim))
        nn.init.uniform_(self.tokens, -bound, bound, generator=generator(seed, layer))
        self.dropout = Dropout(options.dropout, f"{layer}/dropout") if options.dropout else nn.Identity()
        self.num_prefix_tokens = int(backbone.num_prefix_tokens)

    def forward(self, x: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch more_tokens width"]:
        """Return the tokens with the prompts among them."""
        prompts = self.dropout(self.tokens.to(x.dtype).expand(len(x), -1, -1))
        return torch.cat([x[:, : self.num_prefix_tokens], prompts, x[:, self.num_prefix_tokens :]], dim=1)

    def removed_from(self, x: Float[Tensor, "batch more_tokens width"]) -> Float[Tensor, "batch tokens width"]:
        """Return the tokens without those at the prompts' place."""
        behind = self.num_prefix_tokens + len(self.tokens)
        return torch.cat([x[:, : self.num_prefix_tokens], x[:, behind:]], dim=1)


class PromptedBlocks(nn.Module):
    """Blocks that see prompts: inserted before the first, taken out behind the last."""

    def __init__(self, blocks: list[nn.Module], prompts: Prompts) -> None:
        """Keep the blocks as they are."""
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.prompts = prompts

    def forward(self, x: Float[Tensor, "batch tokens width"], **options: Any) -> Float[Tensor, "batch tokens width"]:
        """Return the blocks' output at the tokens that came in."""
        x = self.prompts(x)
        for block in self.blocks:
            x = block(x, **options)
        return self.prompts.removed_from(x)


def put_through_all_blocks(backbone: VisionTransformer, options: PromptOptions, seed: int) -> None:
    """Insert prompts once, before the first block."""
    prompts = Prompts(backbone, options, seed, "vpt/block0")
    backbone.blocks = nn.Sequential(PromptedBlocks(list(backbone.blocks), prompts))


def put_into_each_block(backbone: VisionTransformer, options: PromptOptions, seed: int) -> None:
    """Insert fresh prompts before every block."""
    for number, block in enumerate(list(backbone.blocks)):
        prompts = Prompts(backbone, options, seed, f"vpt/block{number}")
        backbone.blocks[number] = PromptedBlocks([block], prompts)
