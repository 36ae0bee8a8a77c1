"""Notices that a cluster places nothing any more though it has room.

After a node has frozen in the wrong moment, Ray's placement may stay wedged for good: a trial then waits for ever
(https://github.com/ray-project/ray/issues/20477).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

PATIENCE_SECONDS = 120.0
"""How long a placement may wait while there is room for it. Longer than it takes to declare a node dead."""

_SECONDS_BETWEEN_LOOKS = 10.0

Amounts = Mapping[str, float]


class PlacementWatch:
    """Looks now and then whether a placement group waits in spite of free resources."""

    def __init__(self, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Begin to look.

        Args:
            patience_seconds: How long one may wait while there is room for it.
        """
        self._patience_seconds = patience_seconds
        self._looked_at = 0.0
        self._waiting_since: dict[str, float] = {}

    def is_stuck(self) -> bool:
        """Return whether a group has waited for too long; cheap enough to ask again and again."""
        now = time.monotonic()
        if now - self._looked_at >= min(_SECONDS_BETWEEN_LOOKS, self._patience_seconds / 4):
            self._looked_at = now
            waiting = _waiting_groups()
            self._waiting_since = {group: self._waiting_since.get(group, now) for group in waiting}
        return any(now - since > self._patience_seconds for since in self._waiting_since.values())


def waiting_in_spite_of_room(groups: Iterable[Mapping[str, Any]], free: Sequence[Amounts]) -> list[str]:
    """Return the ids of the groups that wait though their bundles fit into what is free.

    Args:
        groups: As Ray's `placement_group_table` tells them.
        free: What each living node has left.
    """
    return [
        str(group["placement_group_id"])
        for group in groups
        if group["state"] == "PENDING" and fits(list(group["bundles"].values()), str(group["strategy"]), free)
    ]


def fits(bundles: Sequence[Amounts], strategy: str, free: Sequence[Amounts]) -> bool:
    """Return whether bundles, which are all alike or empty, fit into what the nodes have left."""
    needed = [bundle for bundle in bundles if any(amount > 0 for amount in bundle.values())]
    if not needed:
        return bool(free)
    rooms = [_num_that_fit(needed[0], node) for node in free]
    if strategy == "STRICT_PACK":
        return max(rooms, default=0) >= len(needed)
    if strategy == "STRICT_SPREAD":
        return sum(room >= 1 for room in rooms) >= len(needed)
    return sum(rooms) >= len(needed)


def _num_that_fit(bundle: Amounts, node: Amounts) -> int:
    return min(int((node.get(name, 0) + 1e-6) // amount) for name, amount in bundle.items() if amount > 0)


def _waiting_groups() -> list[str]:
    import ray
    from ray._private.state import available_resources_per_node

    alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    free = [amounts for node_id, amounts in available_resources_per_node().items() if node_id in alive]
    return waiting_in_spite_of_room(ray.util.placement_group_table().values(), free)
