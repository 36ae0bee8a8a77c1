"""A node of an own cluster without the processes that nobody asks there: dashboard, autoscaler, forwarded logs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

LEAN_ENVIRONMENT = {
    # Processes for tasks of the driver's environment; the slots' and the ranks' is another, so they would end unused.
    "RAY_prestart_worker_first_driver": "0",
}
"""What Ray's processes read when they start."""

_UNASKED = ("start_api_server", "start_monitor", "start_log_monitor")


@contextlib.contextmanager
def lean_node() -> Iterator[None]:
    """Let `ray.init` start no server for the dashboard, no autoscaler, and nothing that forwards logs to the driver.

    Told `include_dashboard=False`, Ray still starts the first, for usage statistics, and waits a second for its
    address. The second finds machines for a cluster that has just this one, the third serves `log_to_driver`.

    The dashboard's agent, which the node cannot be without, is that of an installation without a dashboard: the other
    measures the node all the time, and is the last to leave it, by half a second.
    """
    from ray._private import node as ray_node
    from ray._private import utils

    node_class: Any = ray_node.Node
    before = {name: getattr(node_class, name) for name in _UNASKED}
    ask_for_dashboard = utils.get_dashboard_dependency_error

    def start_none(node: Any, **options: Any) -> None:
        """Leave the node as it is."""

    for name in _UNASKED:
        setattr(node_class, name, start_none)
    utils.get_dashboard_dependency_error = lambda: ImportError("nobody asks for a dashboard here")
    try:
        yield
    finally:
        utils.get_dashboard_dependency_error = ask_for_dashboard
        for name, start in before.items():
            setattr(node_class, name, start)
