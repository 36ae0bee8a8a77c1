"""How long Ray waits for its own processes: far longer than it does by itself, since a busy machine is no fault."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

START_SECONDS = 180.0
"""How long the processes of an own cluster may take to stand. Ray's 30 s pass on two cores that others use too."""

_SECONDS_BETWEEN_QUESTIONS = 0.2

PATIENT_ENVIRONMENT = {
    "RAY_gcs_server_port_wait_time_s": str(int(START_SECONDS)),
    "RAY_agent_register_timeout_ms": str(int(1000 * START_SECONDS)),
    "RAY_worker_register_timeout_seconds": str(int(START_SECONDS)),
    "RAY_raylet_start_wait_time_s": str(int(START_SECONDS)),
}
"""What Ray's processes read when they start."""


@contextlib.contextmanager
def patient_start(seconds: float = START_SECONDS, meanwhile: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Let `ray.init` wait so long for its node to register; the 30 s stand as a number in Ray's source.

    Args:
        seconds: How long.
        meanwhile: Called once, when the node's processes are on their way.
    """
    from ray._private import services

    ask = services.get_node

    is_first = True

    def ask_again(*arguments: Any, **options: Any) -> Any:
        nonlocal is_first
        if is_first:
            is_first = False
            meanwhile()
        deadline = time.monotonic() + seconds
        while True:
            try:
                return ask(*arguments, **options)
            except RuntimeError:  # not there yet
                if time.monotonic() > deadline:
                    raise
                time.sleep(_SECONDS_BETWEEN_QUESTIONS)

    services.get_node = ask_again
    try:
        yield
    finally:
        services.get_node = ask
