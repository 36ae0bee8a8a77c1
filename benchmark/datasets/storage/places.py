"""The folder that holds the data sets."""

from __future__ import annotations

import os
from pathlib import Path

DATA_ROOT_VARIABLE = "ADAPTERTUNE_DATA"


def data_root() -> Path:
    """Return the folder of all data sets: $ADAPTERTUNE_DATA, else ~/.cache/adaptertune/data."""
    named = os.environ.get(DATA_ROOT_VARIABLE)
    return Path(named) if named else Path.home() / ".cache" / "adaptertune" / "data"
