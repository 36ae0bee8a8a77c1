"""What the workers of a trial occupy, and whether a cluster can ever hold them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from benchmark.errors import MissingError

PlacementStrategy = Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"]


@dataclass(frozen=True)
class TrialResources:
    """What each worker of a trial occupies, and how the workers lie on the nodes.

    Attributes:
        cpus_per_worker: CPUs a worker reserves.
        gpus_per_worker: GPUs a worker reserves; below 1 several workers share one.
        placement_strategy: Ray's name for how the workers lie: together (PACK) or apart (SPREAD), if possible or
            strictly.
    """

    cpus_per_worker: float = 1
    gpus_per_worker: float = 0
    placement_strategy: PlacementStrategy = "PACK"

    def bundle(self) -> dict[str, float]:
        """Return one worker's reservation under Ray's resource names; what is zero is left out."""
        amounts = {"CPU": float(self.cpus_per_worker), "GPU": float(self.gpus_per_worker)}
        return {name: amount for name, amount in amounts.items() if amount > 0}


@dataclass(frozen=True)
class Node:
    """One living machine of a cluster.

    Attributes:
        node_id: Ray's identity of the node.
        address: Its network address.
        num_cpus: CPUs it offers.
        num_gpus: GPUs it offers.
    """

    node_id: str
    address: str
    num_cpus: float
    num_gpus: float


def check_feasible(resources: TrialResources, num_workers: int, nodes: tuple[Node, ...]) -> None:
    """Refuse a placement that the cluster can never hold, even when it is empty: Tune would wait for ever.

    Raises:
        MissingError: It does not fit; the message says what is needed and what is there.
    """
    if not fits(resources, num_workers, nodes):
        raise MissingError(_what_is_missing(resources, num_workers, nodes))


def fits(resources: TrialResources, num_workers: int, nodes: tuple[Node, ...]) -> bool:
    """Return whether a placement fits on the nodes when they are empty."""
    capacities = [_bundles_that_fit(resources, node) for node in nodes]
    strategy = resources.placement_strategy
    if strategy == "STRICT_PACK":
        return max(capacities, default=0) >= num_workers
    if strategy == "STRICT_SPREAD":
        return sum(capacity >= 1 for capacity in capacities) >= num_workers
    return sum(capacities) >= num_workers


def count_slots(resources: TrialResources, num_workers: int, nodes: tuple[Node, ...]) -> int:
    """Return how many trials run at once on the empty cluster, at most; placement strategies may lower it."""
    return sum(_bundles_that_fit(resources, node) for node in nodes) // num_workers


def _bundles_that_fit(resources: TrialResources, node: Node) -> int:
    fitting = math.inf
    if resources.cpus_per_worker > 0:
        fitting = math.floor(node.num_cpus / resources.cpus_per_worker + 1e-9)
    gpus = resources.gpus_per_worker
    if 0 < gpus < 1:  # a share lies on one device, so what is left over of two devices does not add up
        fitting = min(fitting, math.floor(node.num_gpus) * math.floor(1 / gpus + 1e-9))
    elif gpus >= 1:
        fitting = min(fitting, math.floor(node.num_gpus / gpus + 1e-9))
    return int(min(fitting, 10**9))


def _what_is_missing(resources: TrialResources, num_workers: int, nodes: tuple[Node, ...]) -> str:
    strategy = resources.placement_strategy
    bundle = " and ".join(
        f"{amount:g} {name}{'s' if amount != 1 else ''}" for name, amount in resources.bundle().items()
    )
    meaning = {
        "STRICT_SPREAD": f"{_count(num_workers, 'node')} with {bundle} each",
        "STRICT_PACK": f"one node that holds all {num_workers}",
    }.get(strategy, f"room for {num_workers} over all nodes")
    num_cpus = sum(node.num_cpus for node in nodes)
    num_gpus = sum(node.num_gpus for node in nodes)
    largest = max(((node.num_cpus, node.num_gpus) for node in nodes), default=(0.0, 0.0))
    there = f"{_count(len(nodes), 'node')}, {_count(num_cpus, 'CPU')}, {_count(num_gpus, 'GPU')}"
    if len(nodes) > 1:
        there += f" (largest node: {_count(largest[0], 'CPU')}, {_count(largest[1], 'GPU')})"
    return (
        f"A trial needs {_count(num_workers, 'bundle')} of {bundle} under {strategy} = {meaning}; "
        f"the cluster has {there}. Lower resources.workers_per_trial, cpus_per_worker or gpus_per_worker, choose "
        "another resources.placement_strategy, or run on a larger cluster."
    )


def _count(number: float, noun: str) -> str:
    return f"{number:g} {noun}{'' if number == 1 else 's'}"
