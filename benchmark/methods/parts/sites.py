"""Which linear maps of a block a method changes; without torch, since a study is expanded and checked without it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from benchmark.errors import Problem

Sites = Literal["all", "attention", "qv", "mlp"]

SITES: Mapping[str, tuple[str, ...]] = {
    "all": ("q", "k", "v", "proj", "fc1", "fc2"),
    "attention": ("q", "k", "v", "proj"),
    "qv": ("q", "v"),
    "mlp": ("fc1", "fc2"),
}
"""The maps of a block by the papers' names; q, k and v are three, although timm keeps them in one matrix."""


def shapes_of(sites: str, width: int, mlp_width: int) -> tuple[tuple[int, int], ...]:
    """Return (inputs, outputs) of each map of `sites` in one block."""
    shapes = {"fc1": (width, mlp_width), "fc2": (mlp_width, width)}
    return tuple(shapes.get(name, (width, width)) for name in SITES[sites])


def rank_problems(rank: int, width: int) -> list[Problem]:
    """Return why a rank does not fit a backbone of this width."""
    if rank <= width:
        return []
    rule = f"a rank above the backbone's width {width} is no low-rank change"
    return [Problem("rank", rank, rule, f"Allowed: 1 to {width}.")]
