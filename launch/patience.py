"""How Ray waits for its own processes: far longer than it does by itself, since a busy machine is no fault, and asking
more often.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

START_SECONDS = 180.0
"""How long the processes of an own cluster may take to stand. Ray's 30 s pass on two cores that others use too."""

_SECONDS_BETWEEN_QUESTIONS = 0.05
_ANSWER_SECONDS = 10.0

PATIENT_ENVIRONMENT = {
    "RAY_gcs_server_port_wait_time_s": str(int(START_SECONDS)),
    "RAY_agent_register_timeout_ms": str(int(1000 * START_SECONDS)),
    "RAY_worker_register_timeout_seconds": str(int(START_SECONDS)),
    "RAY_raylet_start_wait_time_s": str(int(START_SECONDS)),
}
"""What Ray's processes read when they start."""


@contextlib.contextmanager
def patient_start(seconds: float = START_SECONDS, meanwhile: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Let `ray.init` wait so long for its node to register, and go on when it has.

    The 30 s stand as a number in Ray's source, and the second between two of its questions too.

    Args:
        seconds: How long.
        meanwhile: Called once, when the node's processes are on their way.
    """
    from ray._private import services

    ask = services.get_node

    is_first = True

    def ask_in_time(gcs_address: str, node_id: str) -> Any:
        nonlocal is_first
        if is_first:
            is_first = False
            meanwhile()
        _await_registration(gcs_address, node_id, seconds)
        return ask(gcs_address, node_id)

    services.get_node = ask_in_time
    try:
        yield
    finally:
        services.get_node = ask


def _await_registration(gcs_address: str, node_id: str, seconds: float) -> None:
    from ray import NodeID
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.exceptions import RpcError

    client, node = GcsClient(address=gcs_address), NodeID.from_hex(node_id)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(RpcError):  # no answer in time
            if client.check_alive([node], timeout=_ANSWER_SECONDS)[0]:
                return
        time.sleep(_SECONDS_BETWEEN_QUESTIONS)
