"""The energy that a device reports: a GPU's own counter, or the counters of a machine's processor packages."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import torch

RAPL_FOLDER = Path("/sys/class/powercap")
MICROJOULES, MILLIJOULES = 1e-6, 1e-3


class EnergyMeter:
    """Reads how much energy a device took since the meter was made.

    The counters are the device's: what other processes take on it meanwhile is included. They are read through NVML
    on NVIDIA GPUs (`nvmlDeviceGetTotalEnergyConsumption`, Volta and later) and through Linux's powercap files (Intel
    and AMD RAPL) on processors; the latter are readable for the superuser alone on most machines.
    """

    def __init__(self, device: str, rapl_folder: Path = RAPL_FOLDER) -> None:
        """Read the counters once.

        Args:
            device: `cuda` (this process's current GPU) or `cpu`.
            rapl_folder: Where powercap lists its zones.
        """
        self._gpu = _nvml_handle() if device == "cuda" else None
        self._packages = [] if device == "cuda" else _packages(rapl_folder)
        self._start = self._counters()

    def joules(self) -> float | None:
        """Return the energy since the start, in joules; none where the device does not report it."""
        now = self._counters()
        if not self._start or now is None or len(now) != len(self._start):
            return None
        if self._gpu is not None:
            return (now[0] - self._start[0]) * MILLIJOULES
        # A package's counter starts again from 0 after its range.
        ranges = [maximum for _, maximum in self._packages]
        spent = [(end - start) % modulus for start, end, modulus in zip(self._start, now, ranges, strict=True)]
        return sum(spent) * MICROJOULES

    def _counters(self) -> Sequence[int] | None:
        if self._gpu is not None:
            import pynvml

            try:
                return [int(pynvml.nvmlDeviceGetTotalEnergyConsumption(self._gpu))]
            except pynvml.NVMLError:
                return None
        try:
            return [int(counter.read_text()) for counter, _ in self._packages] or None
        except (OSError, ValueError):
            return None


def _packages(folder: Path) -> list[tuple[Path, int]]:
    """Return each package's counter in microjoules and the value after which it starts again."""
    packages = []
    for zone in sorted(folder.glob("intel-rapl:[0-9]*")):
        is_part_of_a_package = zone.name.count(":") > 1
        if not is_part_of_a_package:
            with contextlib.suppress(OSError, ValueError):
                packages.append((zone / "energy_uj", int((zone / "max_energy_range_uj").read_text()) + 1))
    return packages


def _nvml_handle() -> object | None:
    try:
        import pynvml
    except ImportError:  # one trial runs without this package
        return None
    try:
        pynvml.nvmlInit()
        # By its identity: CUDA_VISIBLE_DEVICES renumbers the GPUs for this process, and not for NVML.
        handle: object = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties().uuid}".encode())
        return handle
    except pynvml.NVMLError:
        return None
