"""GPUs that a study may be planned for, and what a trial would take on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmark.errors import RequestError, nearest

UTILISATION = 0.35
"""Share of the peak rate that training is assumed to reach. Not measured: small models and batches reach less."""

USABLE_MEMORY = 0.9
"""Share of the memory that tensors may take; the rest is the CUDA context's, the libraries' and the allocator's."""


@dataclass(frozen=True)
class Device:
    """A GPU.

    Attributes:
        title: As people call it.
        memory_bytes: As the maker states it, in powers of ten; what a driver shows is rather more.
        bf16_flops_per_second: Dense peak on tensor cores, with fp32 sums.
        fp32_flops_per_second: Peak without tensor cores, as PyTorch multiplies fp32 by default.
        usd_per_hour: Assumed price.
        source: Of memory and rates.
        price_source: Of the price.
    """

    title: str
    memory_bytes: int
    bf16_flops_per_second: float
    fp32_flops_per_second: float
    usd_per_hour: float
    source: str
    price_source: str

    @property
    def usable_bytes(self) -> int:
        """What tensors may take."""
        return int(USABLE_MEMORY * self.memory_bytes)

    def seconds(self, flops: float, precision: str) -> float:
        """Return the seconds that one such device is assumed to need for so many operations."""
        peak = self.bf16_flops_per_second if precision == "bf16" else self.fp32_flops_per_second
        return flops / (UTILISATION * peak)


_LISTED = "assumed: RunPod's list in March 2026, as deploybase.ai/articles/best-gpu-for-llm-training quotes it"
_A100 = "NVIDIA A100 datasheet (nvidia-a100-datasheet-us-nvidia-1758950-r4)"

DEVICES: Mapping[str, Device] = {
    "a100-40": Device(
        "A100 40 GB", 40 * 10**9, 312e12, 19.5e12, 1.19, _A100, "assumed: as the A100 80 GB PCIe in the same list"
    ),
    "a100-80": Device("A100 80 GB", 80 * 10**9, 312e12, 19.5e12, 1.39, _A100, _LISTED),
    # The datasheets state bf16 with sparsity: 1,979 and 242 TFLOPS. Dense is half of it.
    "h100": Device("H100 SXM", 80 * 10**9, 989.5e12, 67e12, 2.69, "NVIDIA H100 datasheet", _LISTED),
    "h200": Device("H200 SXM", 141 * 10**9, 989.5e12, 67e12, 3.59, "NVIDIA H200 datasheet", _LISTED),
    "l4": Device(
        "L4",
        24 * 10**9,
        121e12,
        30.3e12,
        0.44,
        "NVIDIA L4 datasheet",
        "assumed: RunPod's list in March 2026, as deploybase.ai/articles/runpod-gpu-pricing quotes it",
    ),
    "rtx4090": Device(
        "RTX 4090",
        24 * 10**9,
        165.2e12,
        82.6e12,
        0.34,
        "NVIDIA Ada GPU architecture whitepaper, appendix A",
        _LISTED,
    ),
}


def find_device(name: str) -> Device:
    """Return a device.

    Raises:
        RequestError: There is none of that name; the nearest are given.
    """
    if name not in DEVICES:
        raise RequestError("--device", name, "there is no such device in the table", nearest(name, DEVICES))
    return DEVICES[name]
