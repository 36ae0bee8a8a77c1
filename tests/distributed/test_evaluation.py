"""Guards sharded evaluation over two real gloo processes: each image once, in order, whatever the set's size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch


@pytest.mark.parametrize("num_images", [1, 7, 8])
def test_outputs_are_complete_and_in_order_when_two_ranks_share_them(tmp_path: Path, num_images: int) -> None:
    program = Path(__file__).with_name("gather_ranks.py")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    target = tmp_path / "outputs.pt"
    subprocess.run(
        [*launcher, str(program), str(num_images), str(target)], check=True, capture_output=True, timeout=120
    )
    assert torch.load(target, weights_only=True).flatten().tolist() == list(range(num_images))
