"""What the nodes of a cluster have, each asked by an actor on it."""

from __future__ import annotations

import contextlib
import dataclasses
import platform
import resource
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmark.presence import missing_files
from benchmark.provenance import package_versions
from benchmark.spec import TrialSpec
from launch.exchange import Device, measure, slower
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
        gpus: Name and memory of each.
        clock_ahead_seconds: Its clock before the driver's, to half the answer's time.
        death_seconds: After which silence this node's settings declare a node dead.
        missing_files: Images and weights that it lacks, with what to do.
    """

    address: str
    versions: dict[str, str]
    open_files: int
    shared_memory_bytes: int
    disk_bytes: int
    gpus: tuple[str, ...]
    clock_ahead_seconds: float
    death_seconds: float
    missing_files: tuple[str, ...] = ()


class Probe:
    """The actor on one node."""

    def state(self, address: str, specs: Sequence[TrialSpec] = ()) -> NodeState:
        """Return what its node has, and what it lacks of trials' files; the driver sets the clock's difference."""
        return NodeState(
            address=address,
            versions={"Python": platform.python_version(), **package_versions()},
            open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            shared_memory_bytes=shutil.disk_usage("/dev/shm").free,  # noqa: S108 -- Ray's object store lies there
            disk_bytes=shutil.disk_usage("/tmp").free,  # noqa: S108 -- and its files here
            gpus=gpus(),
            clock_ahead_seconds=0.0,
            death_seconds=_death_seconds(),
            missing_files=tuple(missing_files(specs)),
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


def gpus() -> tuple[str, ...]:
    """Return each GPU's name, memory and driver; none where there is no driver. Opens no context on them."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        driver = pynvml.nvmlSystemGetDriverVersion()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        sizes_gib = [pynvml.nvmlDeviceGetMemoryInfo(one).total / 2**30 for one in handles]
        names = [pynvml.nvmlDeviceGetName(one) for one in handles]
        return tuple(f"{name} {size:.0f} GiB, driver {driver}" for name, size in zip(names, sizes_gib, strict=True))
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def examine_nodes(nodes: tuple[Node, ...], specs: Sequence[TrialSpec] = ()) -> tuple[list[NodeState], list[float]]:
    """Return every node's state, and the seconds of an all-reduce of each size between two of them.

    Two different nodes where there are several, the head's first; both probes on the one node otherwise.

    Args:
        nodes: Of the cluster.
        specs: Trials whose images and weights each node is asked for.
    """
    import ray

    probes = [_probe_on(node) for node in nodes]
    try:
        states = [_state_of(probe, node, specs) for probe, node in zip(probes, nodes, strict=True)]
        first, second = nodes[0], nodes[-1]
        both = [probes[0], probes[-1] if len(nodes) > 1 else _probe_on(first)]
        return states, _exchange(both, [first.address, second.address])
    finally:
        for probe in probes:
            ray.kill(probe)


def _probe_on(node: Node) -> Any:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    strategy = NodeAffinitySchedulingStrategy(node.node_id, soft=False)
    return ray.remote(num_cpus=0)(Probe).options(scheduling_strategy=strategy).remote()


def _state_of(probe: Any, node: Node, specs: Sequence[TrialSpec]) -> NodeState:
    import ray

    state = ray.get(probe.state.remote(node.address, list(specs)), timeout=_ANSWER_SECONDS)
    asked = time.time()
    there = ray.get(probe.clock.remote(), timeout=_ANSWER_SECONDS)
    return dataclasses.replace(state, clock_ahead_seconds=there - (asked + time.time()) / 2)


def _exchange(probes: list[Any], addresses: list[str]) -> list[float]:
    import ray

    port = ray.get(probes[0].open_store.remote(addresses[0]), timeout=_ANSWER_SECONDS)
    pairs = zip(probes, addresses, strict=True)
    calls = [probe.exchange.remote(rank, addresses[0], port, own, "cpu") for rank, (probe, own) in enumerate(pairs)]
    return slower(ray.get(calls, timeout=_ANSWER_SECONDS))


def _death_seconds() -> float:
    """Return after how long a silent node is dead, by the settings of whoever ran `ray start` here.

    A worker inherits them; only those of the head's node count.
    """
    from ray._raylet import Config  # type: ignore[attr-defined]

    period, timeout = Config.health_check_period_ms(), Config.health_check_timeout_ms()
    return float(Config.health_check_failure_threshold() * (period + timeout)) / 1000
