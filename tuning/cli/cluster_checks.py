"""What `adaptertune doctor --address` says of a cluster: one line for each thing that all nodes need."""

from __future__ import annotations

from collections.abc import Iterator

from benchmark.errors import AdapterTuneError
from launch.cluster import connect
from launch.examination import NodeState, examine_nodes, exchange_between_gpus
from launch.exchange import bandwidths
from launch.resources import Node
from tuning.cli.check import LEAST_FREE_BYTES, LEAST_OPEN_FILES, Check
from tuning.study import load_study

LARGEST_SKEW_SECONDS = 1.0
"""The ledger's and MLflow's times come from several nodes; a second keeps their order."""

LONGEST_DEATH_SECONDS = 30.0
"""With Ray's defaults a frozen node is dead after a minute, and the trials on it never go on."""

HEALTH_CHECK_ADVICE = (
    "set RAY_health_check_period_ms=1000 RAY_health_check_timeout_ms=2000 RAY_health_check_failure_threshold=3 where "
    "`ray start --head` runs"
)


def cluster_checks(address: str, study: str | None = None) -> list[Check]:
    """Examine the nodes of a cluster that stands, and whether each has what a study's trials read."""
    try:
        specs = [trial.spec for trial in load_study(study).trials] if study else []
        with connect(address) as cluster:
            # The driver's node first: of two nodes that exchange arrays, one is it.
            nodes = sorted(cluster.nodes, key=lambda node: node.node_id != cluster.driver_node_id)
            states, seconds = examine_nodes(tuple(nodes), specs)
            num_cpus = sum(node.num_cpus for node in nodes)
            num_gpus = sum(node.num_gpus for node in nodes)
            gpus = _between_gpus(tuple(nodes))
    except (AdapterTuneError, RuntimeError, OSError) as error:
        return [Check("cluster", False, str(error), "look at `ray status` on its head")]
    size = f"{len(nodes)} nodes, {num_cpus:g} CPUs, {num_gpus:g} GPUs"
    files = [files_check(states, study)] if study else []
    sums = [all_reduce_check("all-reduce between nodes", seconds), *gpus]
    return [Check("cluster", True, size), *judge(states), *files, *sums]


def judge(states: list[NodeState]) -> Iterator[Check]:
    """Yield what the nodes' states say; the first state is the driver's node's."""
    yield _versions(states)
    skew = max((abs(state.clock_ahead_seconds) for state in states), default=0.0)
    worst = max(states, key=lambda state: abs(state.clock_ahead_seconds))
    found = f"differ by {skew:.3f} s at most ({worst.address})"
    yield Check("clocks", skew <= LARGEST_SKEW_SECONDS, found, "run chrony or systemd-timesyncd on every node")
    yield _least(
        states,
        "open_files",
        "open files on all nodes",
        LEAST_OPEN_FILES,
        "raise it before `ray start`: ulimit -n 65536",
    )
    yield _least(
        states,
        "shared_memory_bytes",
        "shared memory on all nodes",
        LEAST_FREE_BYTES,
        "give its container more: --shm-size",
    )
    yield _least(
        states, "disk_bytes", "disk on all nodes", LEAST_FREE_BYTES, "free some below /tmp, or `ray start --temp-dir`"
    )
    yield _least(
        states,
        "cache_bytes",
        "disk for caches on all nodes",
        LEAST_FREE_BYTES,
        "adaptertune cache prune, or set ADAPTERTUNE_CACHE",
    )
    death = states[0].death_seconds
    found = f"a silent node is dead after {death:g} s"
    yield Check("health check", death <= LONGEST_DEATH_SECONDS, found, HEALTH_CHECK_ADVICE)
    yield _gpus(states)


def files_check(states: list[NodeState], study: str) -> Check:
    """Say which nodes lack images or weights of a study."""
    lacking = [state for state in states if state.missing_files]
    found = f"missing on {', '.join(state.address for state in lacking)}" if lacking else "here"
    advice = "; ".join(f"on {state.address}: {one}" for state in lacking for one in state.missing_files)
    return Check(f"images and weights of {study} on all nodes", not lacking, found, advice)


def all_reduce_check(name: str, seconds: list[float]) -> Check:
    """Say how fast two ranks sum arrays of the sizes."""
    found = ", ".join(f"{_size(size)} at {speed / 1e6:,.0f} MB/s" for size, speed in bandwidths(seconds).items())
    return Check(name, True, found)


def _between_gpus(nodes: tuple[Node, ...]) -> list[Check]:
    """Sum between two GPUs that the cluster hands out, where it has two."""
    name = "all-reduce between GPUs, NCCL"
    try:
        seconds = exchange_between_gpus(nodes)
    except (RuntimeError, OSError) as error:
        advice = "end the trials that hold the GPUs; look at NCCL_SOCKET_IFNAME, a firewall, and NCCL_DEBUG=INFO"
        return [Check(name, False, str(error) or type(error).__name__, advice)]
    return [all_reduce_check(name, seconds)] if seconds else []


def _gpus(states: list[NodeState]) -> Check:
    faults = [f"{state.address}: {state.gpu_fault}" for state in states if state.gpu_fault]
    found = "; ".join(faults or sorted({gpu for state in states for gpu in state.gpus})) or "none"
    return Check("GPUs on all nodes", not faults, found, "nvidia-smi must answer there: install or restart the driver")


def _versions(states: list[NodeState]) -> Check:
    expected = states[0].versions
    others = [
        f"{state.address} has {package} {state.versions.get(package)}, {states[0].address} {version}"
        for state in states[1:]
        for package, version in expected.items()
        if state.versions.get(package) != version
    ]
    found = "; ".join(others) or ", ".join(f"{name} {version}" for name, version in expected.items())
    return Check("versions on all nodes", not others, found, "install constraints.txt on every node")


def _least(states: list[NodeState], field: str, name: str, least: int, advice: str) -> Check:
    worst = min(states, key=lambda state: int(getattr(state, field)))
    value = int(getattr(worst, field))
    shown = _size(value) if field.endswith("_bytes") else str(value)
    return Check(name, value >= least, f"{shown} at least ({worst.address})", f"on {worst.address}: {advice}")


def _size(num_bytes: int) -> str:
    for unit, factor in (("GB", 10**9), ("MiB", 2**20), ("KiB", 2**10)):
        if num_bytes >= factor:
            return f"{num_bytes / factor:.{0 if unit != 'GB' else 1}f} {unit}"
    return f"{num_bytes} B"
