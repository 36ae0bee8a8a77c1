"""Notices that a cluster's head is gone: Ray would wait for it for a minute, and then end this process as it is."""

from __future__ import annotations

import _thread
import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator

from benchmark.errors import MissingError

LOST_SECONDS = 20.0
"""How long the head may not answer before it counts as lost."""

_LAST_WORD_SECONDS = 45.0
"""How long this process may then take to end by itself: what waits inside Ray may never come back."""

_CONNECT_TIMEOUT_SECONDS = 5.0
_SECONDS_BETWEEN_QUESTIONS = 2.0
_MISSING = 3

RECONNECT_ENVIRONMENT = {"RAY_gcs_rpc_server_reconnect_timeout_s": "600"}
"""What keeps Ray from ending this process before it has said why."""

_logger = logging.getLogger(__name__)


class HeadWatch:
    """A thread that asks the head's port; once it is lost, the main thread is interrupted as by SIGTERM.

    Attributes:
        is_lost: Whether the head has not answered for too long.
    """

    def __init__(self, host: str, port: int, lost_seconds: float = LOST_SECONDS) -> None:
        """Begin to watch.

        Args:
            host: Where the head listens.
            port: Of its control service.
            lost_seconds: How long it may not answer.
        """
        self.is_lost = False
        self._place = (host, port)
        self._lost_seconds = lost_seconds
        self._stop = threading.Event()
        threading.Thread(target=self._watch, name="adaptertune-head-watch", daemon=True).start()

    def stop(self) -> None:
        """End the watch."""
        self._stop.set()

    def error(self) -> MissingError:
        """Return what the user is told."""
        host, port = self._place
        return MissingError(
            f"The head of the Ray cluster at {host}:{port} is lost. What was recorded stays: run the same command "
            "again once a cluster stands, this one or another."
        )

    def _watch(self) -> None:
        answered_at = time.monotonic()
        while not self._stop.wait(_SECONDS_BETWEEN_QUESTIONS):
            with contextlib.suppress(OSError):
                socket.create_connection(self._place, timeout=_CONNECT_TIMEOUT_SECONDS).close()
                answered_at = time.monotonic()
            if time.monotonic() - answered_at > self._lost_seconds:
                self._give_up()
                return

    def _give_up(self) -> None:
        self.is_lost = True
        _thread.interrupt_main(signal.SIGTERM)
        if not self._stop.wait(_LAST_WORD_SECONDS):
            _logger.error("%s", self.error())
            os._exit(_MISSING)


@contextlib.contextmanager
def head_watched(gcs_address: str, lost_seconds: float = LOST_SECONDS) -> Iterator[None]:
    """Watch a head while the block runs.

    Args:
        gcs_address: `HOST:PORT` of its control service.
        lost_seconds: How long it may not answer.

    Raises:
        MissingError: The head was lost.
    """
    host, _, port = gcs_address.rpartition(":")
    watch = HeadWatch(host.strip("[]"), int(port), lost_seconds)
    try:
        yield
    except BaseException as error:
        # Whatever else goes wrong meanwhile follows from it.
        if watch.is_lost:
            raise watch.error() from error
        raise
    finally:
        watch.stop()
