"""In which blocks an adaptation sits, as text; blocks count from 0."""

from __future__ import annotations

import re

PLACEMENT_RULE = (
    "must be one of all, every:K, first:K, last:K (K from 1), or blocks: with numbers and ranges, as 0,3,7-11"
)

_FORM = re.compile(r"all|(every|first|last):0*[1-9]\d*|blocks:\d+(-\d+)?(,\d+(-\d+)?)*")


def normalised(placement: str) -> str:
    """Return a placement without spaces, so that one placement is written one way."""
    return re.sub(r"\s+", "", placement)


def is_placement(text: str) -> bool:
    """Whether the text has the form of a placement."""
    return _FORM.fullmatch(normalised(text)) is not None


def blocks_of(placement: str, depth: int) -> tuple[int, ...]:
    """Return the block numbers of a placement, rising.

    Args:
        placement: `all`; `every:K` (0, K, 2K, ...); `first:K`; `last:K`; `blocks:0,3,7-11` (ranges inclusive).
        depth: Number of blocks of the backbone.

    Raises:
        ValueError: The placement names a block that a backbone of this depth does not have.
    """
    kind, _, argument = normalised(placement).partition(":")
    if kind == "all":
        return tuple(range(depth))
    if kind == "blocks":
        return _listed_blocks(argument, depth)
    count = int(argument)
    if count > depth:
        raise ValueError(f"{kind}:{count} does not fit a backbone of {depth} blocks; K is 1 to {depth}")
    ranges = {"every": range(0, depth, count), "first": range(count), "last": range(depth - count, depth)}
    return tuple(ranges[kind])


def _listed_blocks(argument: str, depth: int) -> tuple[int, ...]:
    blocks: set[int] = set()
    for part in argument.split(","):
        first, _, last = part.partition("-")
        start, stop = int(first), int(last or first)
        if start > stop:
            raise ValueError(f"the range {part} runs backwards")
        if stop >= depth:
            raise ValueError(f"block {stop} does not exist; a backbone of {depth} blocks has 0 to {depth - 1}")
        blocks.update(range(start, stop + 1))
    return tuple(sorted(blocks))
