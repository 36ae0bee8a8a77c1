"""Checksums pinned at the first download, for files whose publisher states none."""

from __future__ import annotations

import json
from pathlib import Path

PIN_FILE = "adaptertune-pins.json"


def pinned_checksums(folder: Path) -> dict[str, str]:
    """Return the pinned checksum of each file in a folder; empty when nothing was pinned."""
    try:
        pins: dict[str, str] = json.loads((folder / PIN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return pins


def pin_checksum(folder: Path, name: str, checksum: str) -> None:
    """Keep a file's checksum, so that a later download of other bytes is noticed."""
    pins = {**pinned_checksums(folder), name: checksum}
    (folder / PIN_FILE).write_text(json.dumps(pins, indent=1, sort_keys=True) + "\n", encoding="utf-8")
