"""Other ways to run a model's blocks: compiled, or again in the backward pass instead of keeping their activations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from benchmark.methods.parts.blocks import AdaptedBlock
from benchmark.methods.parts.masks import RandomMask
from benchmark.training.model import AdaptedClassifier
from benchmark.training.prefix import is_frozen

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


MOST_COMPILED_VARIANTS = 128
"""Of one function in a process; with more, torch would run what follows as it is."""

_RUNS_AGAIN = "runs_again"
"""Marks a `forward` that is run again, so that no block is wrapped twice."""


def compile_blocks(model: AdaptedClassifier, with_adapters: bool = True) -> int:
    """Compile the pretrained blocks that are as they were, and the adapters around them; other changes run as they are.

    The blocks of a backbone are alike, so the first one's code serves all. torch keeps it on disk
    (`TORCHINDUCTOR_CACHE_DIR`), for the trials and studies that follow.

    Args:
        model: With its method attached; changed in place.
        with_adapters: Whether a block and the adapter around it are one piece of code, which a trial alone runs; trials
            in one pass share the block, whose own code they run.

    Returns:
        The number of blocks that were compiled.
    """
    blocks = [block for block in _called_blocks(model) if is_frozen(block, model.untouched)]
    around = [block for block in _blocks(model) if isinstance(block, AdaptedBlock) and not _draws_masks(block)]
    # One function serves all trials that this process trains: every rank, batch and mode is a variant of it.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, MOST_COMPILED_VARIANTS)
    for block in [*blocks, *(around if with_adapters else [])]:
        block.forward = torch.compile(block.forward)
    return len(blocks)


def _draws_masks(block: nn.Module) -> bool:
    return any(isinstance(module, RandomMask) for module in block.modules())


def checkpoint_blocks(model: AdaptedClassifier) -> int:
    """Keep a block's input alone for the backward pass, and run the block again there.

    Args:
        model: With its method attached; changed in place.

    Returns:
        The number of blocks that are run again.
    """
    blocks = [block for block in _called_blocks(model) if not hasattr(block.forward, _RUNS_AGAIN)]
    for block in blocks:
        block.forward = _run_again(block.forward)
    return len(blocks)


def _called_blocks(model: AdaptedClassifier) -> Iterator[nn.Module]:
    """Yield the modules whose `forward` runs a whole block: around branches with adapters, else the pretrained one."""
    for block in _blocks(model):
        yield block.block if isinstance(block, AdaptedBlock) else block


def _blocks(model: AdaptedClassifier) -> list[nn.Module]:
    return list(cast("VisionTransformer", model.backbone).blocks.children())


def _run_again(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def checkpointed(x: Tensor, **options: Any) -> Tensor:
        if not torch.is_grad_enabled():
            return forward(x, **options)
        # Masks come from their own streams, never from torch's generator, whose state need not be kept.
        output: Tensor = checkpoint(forward, x, use_reentrant=False, preserve_rng_state=False, **options)
        return output

    setattr(checkpointed, _RUNS_AGAIN, True)
    return checkpointed
