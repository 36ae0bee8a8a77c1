"""What GPUs a machine has: by their driver, without a context on them, and by torch."""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass
from pathlib import Path

_NVIDIA = "0x10de"
_DISPLAY_CLASS = "0x03"
_PCI_DEVICES = Path("/sys/bus/pci/devices")
_DEVICE_FILES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


@dataclass(frozen=True)
class GpuState:
    """The GPUs of a machine.

    Attributes:
        names: Each GPU's, by the driver.
        total_bytes: Each one's memory.
        free_bytes: What of it no program holds.
        driver: Its version; empty where there is none.
        driver_cuda: The newest CUDA that it runs.
        fault: Why it does not answer, though a GPU is there; empty where all is well.
        num_usable: How many torch uses.
        torch_cuda: The CUDA that torch was built for; empty where it was built for none.
        nccl: The version of torch's NCCL; empty where it has none.
        num_direct_pairs: How many ordered pairs of GPUs reach each other's memory.
    """

    names: tuple[str, ...] = ()
    total_bytes: tuple[int, ...] = ()
    free_bytes: tuple[int, ...] = ()
    driver: str = ""
    driver_cuda: str = ""
    fault: str = ""
    num_usable: int = 0
    torch_cuda: str = ""
    nccl: str = ""
    num_direct_pairs: int = 0


def has_device_file() -> bool:
    """Return whether a driver has made a GPU reachable, of NVIDIA, of AMD or of Windows; no driver is asked."""
    return any(Path(path).exists() for path in _DEVICE_FILES)


def by_driver() -> GpuState:
    """Return what the driver tells, or why it does not."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return GpuState(fault=str(error) if _is_on_the_bus(_PCI_DEVICES) else "")
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        memory = [pynvml.nvmlDeviceGetMemoryInfo(handle) for handle in handles]
        cuda = pynvml.nvmlSystemGetCudaDriverVersion()
        return GpuState(
            names=tuple(pynvml.nvmlDeviceGetName(handle) for handle in handles),
            total_bytes=tuple(one.total for one in memory),
            free_bytes=tuple(one.free for one in memory),
            driver=pynvml.nvmlSystemGetDriverVersion(),
            driver_cuda=f"{cuda // 1000}.{cuda % 1000 // 10}",
        )
    except pynvml.NVMLError as error:  # a GPU that fell off the bus
        return GpuState(fault=str(error))
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def by_driver_and_torch() -> GpuState:
    """Return what the driver tells, and what torch makes of it."""
    import torch

    state = by_driver()
    if not state.names:
        return state
    num_usable = torch.cuda.device_count() if torch.cuda.is_available() else 0
    pairs = [(one, other) for one in range(num_usable) for other in range(num_usable) if one != other]
    has_nccl = num_usable > 0 and torch.distributed.is_nccl_available()
    return dataclasses.replace(
        state,
        num_usable=num_usable,
        torch_cuda=torch.version.cuda or "",
        nccl=".".join(map(str, torch.cuda.nccl.version())) if has_nccl else "",
        num_direct_pairs=sum(torch.cuda.can_device_access_peer(one, other) for one, other in pairs),
    )


def _is_on_the_bus(devices: Path) -> bool:
    """Whether one of NVIDIA's GPUs is built in, with a driver or without."""
    return any(
        (device / "vendor").read_text().strip() == _NVIDIA and (device / "class").read_text().startswith(_DISPLAY_CLASS)
        for device in (devices.iterdir() if devices.is_dir() else ())
        if (device / "class").is_file()
    )
