"""What Ctrl-C and a scheduler's order to end mean for a run: it stops where it can, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

INTERRUPTED = 130
"""The exit status of a command that was interrupted."""


@contextlib.contextmanager
def held_interrupts() -> Iterator[None]:
    """Hold Ctrl-C back while the block runs, and raise it on the way out; a second one is raised at once.

    Where it is raised in the middle of an import, or of a node's start, it may be lost, or leave half of either:
    Python ignores it in callbacks, and neither packages nor Ray tidy up. For what takes a second or two. Outside the
    main thread, or where something else than Python takes the signal, this does nothing.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    is_held = False

    def hold(number: int, frame: FrameType | None) -> None:
        nonlocal is_held
        if is_held:
            is_held = False
            before(number, frame)
        is_held = True

    signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if is_held:
            signal.raise_signal(signal.SIGINT)


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
