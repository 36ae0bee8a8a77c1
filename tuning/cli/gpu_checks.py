"""What `adaptertune doctor` says of GPUs: driver, CUDA, memory, the ways between them, NCCL."""

from __future__ import annotations

from collections.abc import Iterator

from launch.gpus import GpuState
from tuning.cli.check import Check

LEAST_FREE_FRACTION = 0.8
"""Of a GPU's memory: a desktop takes a few percent, another trial much more."""


def gpu_checks(state: GpuState) -> Iterator[Check]:
    """Yield what a machine's GPUs are, a line each; one line where it has none."""
    if state.fault:
        advice = "nvidia-smi must answer: install NVIDIA's driver, and restart the machine after its update"
        yield Check("GPU driver", False, f"does not answer: {state.fault}", advice)
        return
    if not state.names:
        yield Check("GPUs", True, "none")
        return
    num_gpus = len(state.names)
    kinds = ", ".join(f"{state.names.count(name)} x {name}" for name in sorted(set(state.names)))
    yield Check("GPUs", True, kinds)
    yield Check("GPU driver", True, f"{state.driver}, for CUDA up to {state.driver_cuda}")
    yield _cuda(state, num_gpus)
    yield _memory(state)
    if num_gpus > 1 and state.num_usable == num_gpus:
        yield _pairs(state, num_gpus)
    advice = "install torch's build for CUDA: it brings NCCL"
    yield Check("NCCL", bool(state.nccl), state.nccl or "torch has none that it can use", advice)


def _cuda(state: GpuState, num_gpus: int) -> Check:
    found = f"torch, built for {state.torch_cuda or 'no CUDA'}, uses {state.num_usable} of {num_gpus} GPUs"
    advice = "look at CUDA_VISIBLE_DEVICES; torch's CUDA may need a newer driver"
    return Check("CUDA", state.num_usable == num_gpus, found, advice)


def _memory(state: GpuState) -> Check:
    fractions = [free / total for free, total in zip(state.free_bytes, state.total_bytes, strict=True)]
    worst = min(range(len(fractions)), key=fractions.__getitem__)
    free, total = state.free_bytes[worst] / 2**30, state.total_bytes[worst] / 2**30
    found = f"{free:.0f} of {total:.0f} GiB free at least (GPU {worst})"
    return Check("GPU memory", fractions[worst] >= LEAST_FREE_FRACTION, found, "end what holds it: nvidia-smi names it")


def _pairs(state: GpuState, num_gpus: int) -> Check:
    num_pairs = num_gpus * (num_gpus - 1)
    around = "" if state.num_direct_pairs == num_pairs else "; the others' sums go through the machine's memory"
    return Check("ways between GPUs", True, f"{state.num_direct_pairs} of {num_pairs} pairs are direct{around}")
