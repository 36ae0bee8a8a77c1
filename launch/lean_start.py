"""A node of an own cluster without the server of Ray's dashboard, which nobody asks there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def without_dashboard_server() -> Iterator[None]:
    """Let `ray.init` start no server for the dashboard.

    Told `include_dashboard=False`, Ray still starts it, for usage statistics, and waits a second for its address.
    """
    from ray._private import node as ray_node

    node_class: Any = ray_node.Node
    start = node_class.start_api_server

    def start_none(node: Any, **options: Any) -> None:
        """Leave the node's dashboard address as it is: none."""

    node_class.start_api_server = start_none
    try:
        yield
    finally:
        node_class.start_api_server = start
