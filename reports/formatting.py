"""Turns numbers into the text a reader sees: accuracies in percent, differences in points, true minus signs."""

from __future__ import annotations

from collections.abc import Sequence

ABSENT = "–"
"""Stands where there is no number."""


def percent(fraction: float | None) -> str:
    """Return a fraction as percent with two decimals, without the sign."""
    return ABSENT if fraction is None else _minus(f"{100 * fraction:.2f}")


def points(fraction: float | None) -> str:
    """Return a difference of fractions as signed percentage points."""
    return ABSENT if fraction is None else _minus(f"{100 * fraction:+.2f}")


def percent_interval(interval: tuple[float, float] | None) -> str:
    """Return an interval of fractions in percent."""
    return ABSENT if interval is None else f"[{percent(interval[0])}, {percent(interval[1])}]"


def points_interval(interval: tuple[float, float] | None) -> str:
    """Return an interval of differences in signed points."""
    return ABSENT if interval is None else f"[{points(interval[0])}, {points(interval[1])}]"


def mean_and_std(mean: float | None, std: float | None) -> str:
    """Return `mean ± std` in percent, or the mean alone."""
    return percent(mean) if std is None else f"{percent(mean)} ± {percent(std)}"


def p_value(value: float | None) -> str:
    """Return a p-value with two significant digits, `< 0.001` below that."""
    if value is None:
        return ABSENT
    return "< 0.001" if value < 0.001 else f"{value:.2g}" if value < 0.1 else f"{value:.2f}"


def count(value: int | None) -> str:
    """Return an integer with thin spaces between thousands."""
    return ABSENT if value is None else f"{value:,}".replace(",", "\u2009")


def duration(seconds: float | None) -> str:
    """Return seconds, minutes or hours, whichever reads best."""
    if seconds is None:
        return ABSENT
    if abs(seconds) < 120:
        return _minus(f"{seconds:.1f} s")
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def memory(num_bytes: int | None) -> str:
    """Return bytes in the decimal unit that reads best."""
    return _scaled(num_bytes, ("B", "kB", "MB", "GB"))


def flops(operations: int | None) -> str:
    """Return floating-point operations in the unit that reads best."""
    return _scaled(operations, ("", "k", "M", "G", "T", "P"))


def energy(joules: float | None) -> str:
    """Return an energy in the unit that reads best."""
    return _scaled(joules, ("J", "kJ", "MJ", "GJ"))


def _scaled(value: float | None, units: Sequence[str]) -> str:
    """Return a value with three digits, in the last of the units, each a thousand times the one before, that fits."""
    if value is None:
        return ABSENT
    scale = 0
    while abs(value) >= 999.5 and scale < len(units) - 1:
        value, scale = value / 1000, scale + 1
    return f"{value:.3g} {units[scale]}".rstrip()


def listed(names: Sequence[str]) -> str:
    """Return names joined as in a sentence."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def plural(number: int, noun: str) -> str:
    """Return a count with its noun."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _minus(text: str) -> str:
    return text.replace("-", "\u2212")
