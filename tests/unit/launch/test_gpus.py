"""What is learnt of GPUs, from a stand-in for the driver's library: no GPU is needed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from launch import gpus


def bus(folder: Path, vendor: str, device_class: str) -> Path:
    device = folder / "0000:01:00.0"
    device.mkdir()
    (device / "vendor").write_text(f"{vendor}\n")
    (device / "class").write_text(f"{device_class}\n")
    return folder


def answering(monkeypatch: pytest.MonkeyPatch, **answers: Any) -> None:
    """Let the driver's library answer so."""
    for name, answer in {"Init": None, "Shutdown": None, **answers}.items():

        def call(*_: Any, answer: Any = answer) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(pynvml, f"nvml{name}", call)


def test_gpus_are_as_the_driver_tells_when_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(
        monkeypatch,
        DeviceGetCount=1,
        DeviceGetHandleByIndex="handle",
        DeviceGetMemoryInfo=SimpleNamespace(total=80, free=79),
        DeviceGetName="H100",
        SystemGetDriverVersion="580.65.06",
        SystemGetCudaDriverVersion=12080,
    )
    assert gpus.by_driver() == gpus.GpuState(("H100",), (80,), (79,), "580.65.06", "12.8")


def test_driver_is_at_fault_when_it_does_not_answer_though_a_gpu_is_built_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, Init=pynvml.NVMLError(pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH))
    monkeypatch.setattr(gpus, "_PCI_DEVICES", bus(tmp_path, "0x10de", "0x030200"))
    assert "mismatch" in gpus.by_driver().fault


@pytest.mark.parametrize(("vendor", "device_class"), [("0x8086", "0x030000"), ("0x10de", "0x040300")])
def test_nothing_is_at_fault_when_no_gpu_of_nvidia_is_built_in(
    vendor: str, device_class: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, Init=pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND))
    monkeypatch.setattr(gpus, "_PCI_DEVICES", bus(tmp_path, vendor, device_class))
    assert gpus.by_driver_and_torch() == gpus.GpuState()


def test_driver_is_at_fault_when_it_loses_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, DeviceGetCount=pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST))
    assert "lost" in gpus.by_driver().fault
