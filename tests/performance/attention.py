"""Attention by torch's fused kernel and by its three operations, forward and backward, one thread, side by side.

    python -m tests.performance.attention

Heads and their width are ViT-Ti/16's. The ratio says how many times as long the fused kernel takes, in processor time.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

NUM_HEADS, HEAD_WIDTH = 3, 64
NUM_ROUNDS = 5
BATCH_IMAGES = {10: 64, 37: 64, 197: 64, 577: 8, 1025: 8}


def explicit(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scores = (query * HEAD_WIDTH**-0.5) @ key.transpose(-2, -1)
    return scores.softmax(dim=-1) @ value


def seconds_of(attention: Callable[[Tensor, Tensor, Tensor], Tensor], qkv: Tensor, gradient: Tensor) -> float:
    shape = (*qkv.shape[:2], 3, NUM_HEADS, HEAD_WIDTH)
    started = time.process_time()
    attention(*qkv.reshape(shape).permute(2, 0, 3, 1, 4).unbind(0)).backward(gradient)
    return time.process_time() - started


def main() -> int:
    torch.set_num_threads(1)
    sys.stdout.write(
        "| tokens | type | fused, ms | explicit, ms | fused / explicit (least – most) |\n|---|---|---:|---:|---:|\n"
    )
    for num_tokens, num_images in BATCH_IMAGES.items():
        for dtype in (torch.float32, torch.bfloat16):
            qkv = torch.randn(num_images, num_tokens, 3 * NUM_HEADS * HEAD_WIDTH, dtype=dtype, requires_grad=True)
            gradient = torch.randn(num_images, NUM_HEADS, num_tokens, HEAD_WIDTH, dtype=dtype)
            ways = (scaled_dot_product_attention, explicit)
            rounds = [[seconds_of(way, qkv, gradient) for way in ways] for _ in range(NUM_ROUNDS + 1)][1:]
            fused, own = (1000 * statistics.median(one[way] for one in rounds) for way in (0, 1))
            ratios = sorted(one[0] / one[1] for one in rounds)
            spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} – {ratios[-1]:.2f})"
            name = str(dtype).removeprefix("torch.")
            sys.stdout.write(f"| {num_tokens} | {name} | {fused:.1f} | {own:.1f} | {spread} |\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
