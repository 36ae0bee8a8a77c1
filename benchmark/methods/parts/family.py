"""Puts the bottleneck family into a backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from benchmark.methods.parts.axes import BottleneckAxes
from benchmark.methods.parts.blocks import AdaptedBlock, AdaptedBranches, Join
from benchmark.methods.parts.bottleneck import build_bottleneck
from benchmark.methods.parts.placement import blocks_of

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


def put_behind_blocks(
    backbone: VisionTransformer, options: BottleneckAxes, seed: int, is_parallel: bool = False
) -> None:
    """Replace the blocks of the placement by themselves with a bottleneck behind or beside."""
    for number in blocks_of(options.placement, len(backbone.blocks)):
        adapter = build_bottleneck(backbone.embed_dim, options, seed, f"adapter/block{number}")
        backbone.blocks[number] = AdaptedBlock(backbone.blocks[number], adapter, is_parallel)


def put_into_branches(
    backbone: VisionTransformer, options: BottleneckAxes, seed: int, sites: tuple[str, ...], join: Join
) -> None:
    """Replace the blocks of the placement by themselves with a bottleneck at these branches.

    Args:
        backbone: Of standard blocks.
        options: Rank, placement, initialisation and the further axes.
        seed: Names the streams of the start values.
        sites: `attention`, `mlp`.
        join: How a bottleneck meets its branch.
    """
    for number in blocks_of(options.placement, len(backbone.blocks)):
        adapters: dict[str, nn.Module] = {
            site: build_bottleneck(backbone.embed_dim, options, seed, f"adapter/block{number}/{site}") for site in sites
        }
        backbone.blocks[number] = AdaptedBranches(backbone.blocks[number], adapters, join)
