"""What the doctor says of GPUs, each healthy and broken; no GPU is needed."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from launch.gpus import GpuState
from tuning.cli.gpu_checks import gpu_checks

GIB = 2**30
HEALTHY = GpuState(
    names=("H100", "H100"),
    total_bytes=(80 * GIB, 80 * GIB),
    free_bytes=(79 * GIB, 79 * GIB),
    driver="580.65.06",
    driver_cuda="13.0",
    num_usable=2,
    torch_cuda="12.8",
    nccl="2.27.5",
    num_direct_pairs=2,
)


def test_each_thing_has_its_line_when_two_gpus_are_well() -> None:
    assert [(check.name, check.ok, check.found) for check in gpu_checks(HEALTHY)] == [
        ("GPUs", True, "2 x H100"),
        ("GPU driver", True, "580.65.06, for CUDA up to 13.0"),
        ("CUDA", True, "torch, built for 12.8, uses 2 of 2 GPUs"),
        ("GPU memory", True, "79 of 80 GiB free at least (GPU 0)"),
        ("ways between GPUs", True, "2 of 2 pairs are direct"),
        ("NCCL", True, "2.27.5"),
    ]


def test_one_line_says_so_when_there_is_no_gpu() -> None:
    assert [(check.name, check.ok, check.found) for check in gpu_checks(GpuState())] == [("GPUs", True, "none")]


@pytest.mark.parametrize(
    ("changes", "name", "said"),
    [
        ({"num_usable": 1}, "CUDA", "uses 1 of 2 GPUs"),
        ({"free_bytes": (79 * GIB, 10 * GIB)}, "GPU memory", "10 of 80 GiB free at least (GPU 1)"),
        ({"nccl": ""}, "NCCL", "torch has none"),
    ],
)
def test_line_says_what_to_do_when_something_is_broken(changes: dict[str, Any], name: str, said: str) -> None:
    (check,) = [check for check in gpu_checks(dataclasses.replace(HEALTHY, **changes)) if not check.ok]
    assert (check.name, said in check.found, bool(check.advice)) == (name, True, True)


def test_driver_is_named_when_it_does_not_answer() -> None:
    (check,) = gpu_checks(GpuState(fault="Driver/library version mismatch"))
    assert (check.name, check.ok) == ("GPU driver", False)
    assert "version mismatch" in check.found and "nvidia-smi" in check.advice


def test_pairs_that_are_not_direct_are_no_fault_but_said() -> None:
    checks = {check.name: check for check in gpu_checks(dataclasses.replace(HEALTHY, num_direct_pairs=0))}
    assert checks["ways between GPUs"].ok
    assert "0 of 2" in checks["ways between GPUs"].found and "machine's memory" in checks["ways between GPUs"].found
