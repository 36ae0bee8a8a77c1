"""Puts the arrays of Google's `.npz` checkpoints (ViT, augreg) under timm's names and into torch's layout.

Source of the layout: google-research/vision_transformer, whose names are those of the Flax modules: kernels are
[in, out], attention projections [d, heads, d/heads] and [heads, d/heads, d], convolutions [height, width, in, out].
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmark.errors import RequestError

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[Any]

_BLOCK = re.compile(r"Transformer/encoderblock_(\d+)/(.+)")
_ATTENTION = "MultiHeadDotProductAttention_1"


def _as_is(array: Array) -> Array:
    return array


_OUTSIDE: dict[str, tuple[str, Callable[[Array], Array]]] = {
    "cls": ("cls_token", _as_is),
    "embedding/kernel": ("patch_embed.proj.weight", lambda kernel: kernel.transpose(3, 2, 0, 1)),
    "embedding/bias": ("patch_embed.proj.bias", _as_is),
    "Transformer/posembed_input/pos_embedding": ("pos_embed", _as_is),
    "Transformer/encoder_norm/scale": ("norm.weight", _as_is),
    "Transformer/encoder_norm/bias": ("norm.bias", _as_is),
    "head/kernel": ("head.weight", lambda kernel: kernel.T),
    "head/bias": ("head.bias", _as_is),
    "pre_logits/kernel": ("pre_logits.fc.weight", lambda kernel: kernel.T),
    "pre_logits/bias": ("pre_logits.fc.bias", _as_is),
}

_INSIDE: dict[str, tuple[str, Callable[[Array], Array]]] = {
    "LayerNorm_0/scale": ("norm1.weight", _as_is),
    "LayerNorm_0/bias": ("norm1.bias", _as_is),
    "LayerNorm_2/scale": ("norm2.weight", _as_is),
    "LayerNorm_2/bias": ("norm2.bias", _as_is),
    "MlpBlock_3/Dense_0/kernel": ("mlp.fc1.weight", lambda kernel: kernel.T),
    "MlpBlock_3/Dense_0/bias": ("mlp.fc1.bias", _as_is),
    "MlpBlock_3/Dense_1/kernel": ("mlp.fc2.weight", lambda kernel: kernel.T),
    "MlpBlock_3/Dense_1/bias": ("mlp.fc2.bias", _as_is),
    f"{_ATTENTION}/out/kernel": ("attn.proj.weight", lambda kernel: kernel.reshape(-1, kernel.shape[-1]).T),
    f"{_ATTENTION}/out/bias": ("attn.proj.bias", _as_is),
    **{f"{_ATTENTION}/{part}/kernel": (part, lambda kernel: kernel.reshape(len(kernel), -1).T) for part in
       ("query", "key", "value")},
    **{f"{_ATTENTION}/{part}/bias": (part, lambda bias: bias.reshape(-1)) for part in ("query", "key", "value")},
}  # fmt: skip


def to_timm_layout(arrays: Mapping[str, Array], path: Path) -> dict[str, Tensor]:
    """Return every array as a tensor under timm's name; query, key and value become one.

    Args:
        arrays: By Google's names, the optimiser's prefix taken off.
        path: The file, for errors.

    Raises:
        RequestError: A name is not of this layout, or a part of the attention is missing.
    """
    import torch

    renamed: dict[str, Array] = {}
    unknown = []
    for name, array in arrays.items():
        block = _BLOCK.fullmatch(name)
        rule = _INSIDE.get(block[2]) if block else _OUTSIDE.get(name)
        if rule is None:
            unknown.append(name)
            continue
        prefix = f"blocks.{block[1]}." if block else ""
        kind = name.rpartition("/")[2]
        is_part = rule[0] in ("query", "key", "value")
        renamed[f"{prefix}attn.{rule[0]}/{kind}" if is_part else prefix + rule[0]] = rule[1](array)
    if unknown:
        rule_text = f"these arrays are not of Google's ViT layout: {', '.join(sorted(unknown)[:8])}"
        raise RequestError(
            "backbone.weights", str(path), rule_text, "Give the tensors as safetensors under timm's names."
        )
    joined = _with_joined_attention(renamed, path)
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in joined.items()}


def _with_joined_attention(arrays: dict[str, Array], path: Path) -> dict[str, Array]:
    joined = {name: array for name, array in arrays.items() if "/" not in name}
    starts = {name.rpartition("attn.")[0] for name in arrays if "/" in name}
    for start in sorted(starts):
        for kind, target in (("kernel", "weight"), ("bias", "bias")):
            names = [f"{start}attn.{part}/{kind}" for part in ("query", "key", "value")]
            absent = [name for name in names if name not in arrays]
            if absent:
                raise RequestError("backbone.weights", str(path), f"the file lacks {', '.join(absent)}")
            joined[f"{start}attn.qkv.{target}"] = np.concatenate([arrays[name] for name in names])
    return joined
