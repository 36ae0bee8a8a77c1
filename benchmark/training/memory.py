"""A trial's peak memory in a process that lives on from trial to trial."""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch


def forget_peak_memory(device: str) -> None:
    """Start a new high-water mark of this process's memory on the device."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return
    with contextlib.suppress(OSError):  # without the permission the mark stays the process's own
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_bytes(device: str) -> int | None:
    """Return the high-water mark: allocated bytes on a GPU, resident bytes on a CPU; none where it is not told."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    kibibytes = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(kibibytes[0]) * 1024 if kibibytes else None
