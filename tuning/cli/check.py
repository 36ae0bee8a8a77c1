"""One line of what `adaptertune doctor` says."""

from __future__ import annotations

from dataclasses import dataclass

LEAST_FREE_BYTES = 2 * 10**9
LEAST_OPEN_FILES = 1024


@dataclass(frozen=True)
class Check:
    """One line of the examination: what was found, and what to do where it is not enough."""

    name: str
    ok: bool
    found: str
    advice: str = ""
