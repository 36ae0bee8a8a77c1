"""What a scheduler's order to end means for a run."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """Make SIGTERM end what runs inside like Ctrl-C: resumable, nothing left behind.

    Slurm, Kubernetes and systemd send it before they kill. Ray sets a handler of its own when it is connected, which
    would only end the process, so this belongs inside the connection. Outside the main thread it does nothing, since
    Python handles signals there alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
