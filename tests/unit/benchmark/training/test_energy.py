"""Energy: differences of the counters that a device reports, and nothing where it reports none."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.training.energy import EnergyMeter


def package(folder: Path, number: str, microjoules: int, largest: int = 10**9) -> Path:
    """Make one of powercap's zones and return its counter."""
    zone = folder / f"intel-rapl:{number}"
    zone.mkdir(parents=True)
    (zone / "max_energy_range_uj").write_text(f"{largest}\n")
    (zone / "energy_uj").write_text(f"{microjoules}\n")
    return zone / "energy_uj"


def test_packages_are_added_and_their_parts_are_not_counted_twice(tmp_path: Path) -> None:
    counters = [package(tmp_path, name, 1_000_000) for name in ("0", "1", "0:0")]
    meter = EnergyMeter("cpu", tmp_path)
    for counter in counters:
        counter.write_text("3500000\n")
    assert meter.joules() == pytest.approx(5.0)


def test_energy_goes_on_when_a_counter_starts_again(tmp_path: Path) -> None:
    counter = package(tmp_path, "0", 9_000_000, largest=9_999_999)
    meter = EnergyMeter("cpu", tmp_path)
    counter.write_text("2000000\n")
    assert meter.joules() == pytest.approx(3.0)


@pytest.mark.parametrize("content", [None, "", "no number"])
def test_energy_is_absent_when_the_machine_does_not_report_it(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        package(tmp_path, "0", 1).write_text(content)
    assert EnergyMeter("cpu", tmp_path).joules() is None


def test_energy_is_absent_when_a_counter_goes_away(tmp_path: Path) -> None:
    counter = package(tmp_path, "0", 1)
    meter = EnergyMeter("cpu", tmp_path)
    counter.unlink()
    assert meter.joules() is None
