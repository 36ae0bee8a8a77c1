"""Named random streams: every random number of a trial comes from (seed, name, counters), never from a global state.

So a result does not depend on the number of workers, on what ran before in the process, or on a resume.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

_INCREMENT = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_MULTIPLIERS = (-4658895280553007687, -7723592293110705685)  # 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def stream_key(seed: int, name: str) -> int:
    """Return a 63-bit key for the stream `name` of a trial's seed."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, name: str) -> torch.Generator:
    """Return a CPU generator at the start of the stream `name`."""
    return torch.Generator().manual_seed(stream_key(seed, name))


def uniform(key: int, counters: Tensor) -> Tensor:
    """Return one uniform number in [0, 1) for each counter.

    Args:
        key: The stream's key.
        counters: int64 tensor of any shape; equal counters give equal numbers on every device.

    Returns:
        float32 tensor of the counters' shape.

    Source: the SplitMix64 output function (Steele, Lea & Flood, 2014), applied to a counter.
    """
    state = (counters + 1) * _INCREMENT + key
    for multiplier, shift in zip(_MULTIPLIERS, (30, 27), strict=True):
        state = (state ^ _logical_shift_right(state, shift)) * multiplier
    state = state ^ _logical_shift_right(state, 31)
    return _logical_shift_right(state, 40).to(torch.float32) / float(1 << 24)


def _logical_shift_right(values: Tensor, bits: int) -> Tensor:
    """Shift int64 values right, filling with zeros: torch's own shift repeats the sign."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)
