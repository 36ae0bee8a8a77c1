"""What the nodes of a cluster have, each asked by an actor on it."""

from __future__ import annotations

import dataclasses
import platform
import resource
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmark.cache_folder import cache_root
from benchmark.folders import existing_parent
from benchmark.presence import missing_files
from benchmark.provenance import package_versions
from benchmark.spec import TrialSpec
from launch.exchange import Device, measure, slower
from launch.gpus import by_driver
from launch.resources import Node

_ANSWER_SECONDS = 120.0


@dataclass(frozen=True)
class NodeState:
    """What one node has.

    Attributes:
        address: Its network address.
        versions: Of Python and of the packages that may change a score.
        open_files: How many a process of it may open.
        shared_memory_bytes: Free for Ray's object store.
        disk_bytes: Free in its temporary folder.
        cache_bytes: Free where it keeps decoded images and outputs of backbones.
        gpus: Name, memory and driver of each.
        gpu_fault: Why their driver does not answer; empty where all is well.
        clock_ahead_seconds: Its clock before the driver's, to half the answer's time.
        death_seconds: After which silence this node's settings declare a node dead.
        missing_files: Images and weights that it lacks, with what to do.
    """

    address: str
    versions: dict[str, str]
    open_files: int
    shared_memory_bytes: int
    disk_bytes: int
    cache_bytes: int
    gpus: tuple[str, ...]
    clock_ahead_seconds: float
    death_seconds: float
    missing_files: tuple[str, ...] = ()
    gpu_fault: str = ""


class Probe:
    """The actor on one node."""

    def state(self, address: str, specs: Sequence[TrialSpec] = ()) -> NodeState:
        """Return what its node has, and what it lacks of trials' files; the driver sets the clock's difference."""
        gpus = by_driver()
        sizes = [f"{total / 2**30:.0f} GiB, driver {gpus.driver}" for total in gpus.total_bytes]
        return NodeState(
            address=address,
            versions={"Python": platform.python_version(), **package_versions()},
            open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            shared_memory_bytes=shutil.disk_usage("/dev/shm").free,  # noqa: S108 -- Ray's object store lies there
            disk_bytes=shutil.disk_usage("/tmp").free,  # noqa: S108 -- and its files here
            cache_bytes=shutil.disk_usage(existing_parent(cache_root())).free,
            gpus=tuple(f"{name} {size}" for name, size in zip(gpus.names, sizes, strict=True)),
            clock_ahead_seconds=0.0,
            death_seconds=_death_seconds(),
            missing_files=tuple(missing_files(specs)),
            gpu_fault=gpus.fault,
        )

    def clock(self) -> float:
        """Return its node's time."""
        return time.time()

    def open_store(self, host: str) -> int:
        """Open the store at which two probes meet; return its port."""
        from benchmark.training.process_group import open_store

        self._store = open_store(2, host)
        return int(self._store.port)

    def exchange(self, rank: int, host: str, port: int, address: str, device: Device) -> list[float]:
        """Return the seconds of an all-reduce of each size with the other probe."""
        store = self._store if rank == 0 else None
        return measure(rank, host, port, store=store, node_address=address, device=device)


def examine_nodes(nodes: tuple[Node, ...], specs: Sequence[TrialSpec] = ()) -> tuple[list[NodeState], list[float]]:
    """Return every node's state, and the seconds of an all-reduce of each size between two of them.

    Two different nodes where there are several, the head's first; both probes on the one node otherwise.

    Args:
        nodes: Of the cluster.
        specs: Trials whose images and weights each node is asked for.
    """
    probes = [_probe_on(node) for node in nodes]
    try:
        states = [_state_of(probe, node, specs) for probe, node in zip(probes, nodes, strict=True)]
    finally:
        _end(probes)
    return states, _exchange([nodes[0], nodes[-1]], "cpu")


def exchange_between_gpus(nodes: tuple[Node, ...]) -> list[float] | None:
    """Return the seconds of an all-reduce of each size between two GPUs, of different nodes where there are several.

    Returns:
        None where the cluster has fewer than two GPUs.

    Raises:
        TimeoutError: No two GPUs were free, or their ranks did not answer.
        RuntimeError: A rank failed.
    """
    places = [node for node in nodes for _ in range(int(node.num_gpus))]
    return _exchange([places[0], places[-1]], "cuda") if len(places) > 1 else None


def _probe_on(node: Node, num_gpus: int = 0) -> Any:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    strategy = NodeAffinitySchedulingStrategy(node.node_id, soft=False)
    return ray.remote(num_cpus=0, num_gpus=num_gpus)(Probe).options(scheduling_strategy=strategy).remote()


def _end(probes: list[Any]) -> None:
    import ray

    for probe in probes:
        ray.kill(probe)


def _state_of(probe: Any, node: Node, specs: Sequence[TrialSpec]) -> NodeState:
    import ray

    state = ray.get(probe.state.remote(node.address, list(specs)), timeout=_ANSWER_SECONDS)
    asked = time.time()
    there = ray.get(probe.clock.remote(), timeout=_ANSWER_SECONDS)
    return dataclasses.replace(state, clock_ahead_seconds=there - (asked + time.time()) / 2)


def _exchange(both: list[Node], device: Device) -> list[float]:
    import ray

    probes = [_probe_on(node, num_gpus=1 if device == "cuda" else 0) for node in both]
    host = both[0].address
    try:
        port = ray.get(probes[0].open_store.remote(host), timeout=_ANSWER_SECONDS)
        ranks = enumerate(zip(probes, both, strict=True))
        calls = [probe.exchange.remote(rank, host, port, node.address, device) for rank, (probe, node) in ranks]
        return slower(ray.get(calls, timeout=_ANSWER_SECONDS))
    finally:
        _end(probes)


def _death_seconds() -> float:
    """Return after how long a silent node is dead, by the settings of whoever ran `ray start` here.

    A worker inherits them; only those of the head's node count.
    """
    from ray._raylet import Config  # type: ignore[attr-defined]

    period, timeout = Config.health_check_period_ms(), Config.health_check_timeout_ms()
    return float(Config.health_check_failure_threshold() * (period + timeout)) / 1000
