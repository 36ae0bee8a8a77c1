"""Python's garbage collector, kept from looking again and again through what is never garbage: imported packages."""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def lasting_imports() -> Iterator[None]:
    """Collect nothing while packages are imported, and leave what they made out of every later collection.

    Some imports make a million objects that stay, and each collection on the way looks through all of them: torch,
    timm and DeepSpeed import in four fifths of the time without. Where nothing was imported, nothing changes. On its
    way out, too, the process looks through as little as it can.
    """
    _leave_quickly()
    was_enabled, num_modules = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > num_modules:
            gc.freeze()
        if was_enabled:
            gc.enable()


@functools.cache
def _leave_quickly() -> None:
    atexit.register(_leave)


def _leave() -> None:
    """Leave the last collection nothing to look through, which takes a second after MLflow, Ray and pandas.

    Triton, which torch imports, counts what is not collected as leaked, and says so at length.
    """
    if "triton" in sys.modules:
        gc.unfreeze()
    else:
        gc.freeze()
