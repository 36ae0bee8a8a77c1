"""A program: opens a decoded index of slow images and writes how many it decoded itself."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
from benchmark.training.input import decoded_index
from tests.unit.benchmark.training.input.synthetic_items import SyntheticItems

target, num_images = Path(sys.argv[2]), int(sys.argv[3])
decoded_index.LARGEST_IN_MEMORY_BYTES = 0
items = SyntheticItems([(8, 8)] * num_images, seconds_per_image=0.01)


def tell(num_decoded: int, _: int) -> None:
    target.with_suffix(".started").write_text(str(num_decoded))


stored = decoded_index.open_stored(items, "slow/train", 256, tell)
target.write_text(f"{len(items.decoded_rows)} {int(stored.buffer.sum())}")
