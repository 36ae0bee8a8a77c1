"""Several Ray nodes on this machine, each with its own processes, that can be removed and frozen one by one."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.cluster.aftermath import was_started_in
from tests.ports import free_port

START_SECONDS = 180.0
# Half as strict as the suite's templates: on a busy machine a node must not be declared dead for being slow.
HEALTH_CHECK = {"period_ms": 1000, "timeout_ms": 3000, "failure_threshold": 4}
DEATH_SECONDS = 16


@dataclass(frozen=True)
class RayNode:
    """One node: the process that `ray start --block` is, and all that it started."""

    process: subprocess.Popen[bytes]

    def family(self) -> list[psutil.Process]:
        """Return the node's processes, its workers too."""
        with contextlib.suppress(psutil.NoSuchProcess):
            own = psutil.Process(self.process.pid)
            return [own, *own.children(recursive=True)]
        return []

    def runs(self, title: str) -> bool:
        """Return whether one of its workers bears a title, such as `ray::` and an actor's class."""
        for member in self.family():
            with contextlib.suppress(psutil.Error):
                if "".join(member.cmdline()[:1]).startswith(title):
                    return True
        return False

    def send(self, number: signal.Signals) -> None:
        """Send a signal to all of the node's processes: SIGKILL removes it, SIGSTOP freezes it."""
        for member in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                member.send_signal(number)


@dataclass(frozen=True)
class NodeCluster:
    """A head and its other nodes."""

    address: str
    head: RayNode
    others: list[RayNode]


@contextlib.contextmanager
def node_cluster(head_cpus: int, cpus_of_others: Sequence[int] = ()) -> Iterator[NodeCluster]:
    """Start a head and further nodes; at the end all of their processes are gone, and their folder."""
    # Below the usual temporary folder a socket's path would be too long.
    with tempfile.TemporaryDirectory(prefix="nodes-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        port = free_port()
        address, nodes = f"127.0.0.1:{port}", []
        try:
            nodes.append(_start(Path(folder), ["--head", f"--port={port}", f"--temp-dir={folder}/ray"], head_cpus))
            _await_nodes(address, nodes, Path(folder))
            for num_cpus in cpus_of_others:
                nodes.append(_start(Path(folder), [f"--address={address}"], num_cpus))
                _await_nodes(address, nodes, Path(folder))
            yield NodeCluster(address, nodes[0], nodes[1:])
        finally:
            _end(nodes, Path(folder))


def living_nodes(address: str) -> int:
    """Return how many nodes the head holds to be alive, itself included; asked without joining the cluster."""
    from ray._raylet import GcsClient  # type: ignore[attr-defined]

    alive = 0  # GcsNodeInfo.ALIVE
    return sum(node.state == alive for node in GcsClient(address=address).get_all_node_info().values())


def _start(folder: Path, role: list[str], num_cpus: int) -> RayNode:
    options = [*role, "--block", "--node-ip-address=127.0.0.1", f"--num-cpus={num_cpus}", "--disable-usage-stats"]
    options += ["--min-worker-port=0", "--max-worker-port=0", f"--object-store-memory={150 * 2**20}"]
    options += ["--include-dashboard=false"] if "--head" in role else []
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    environment |= {f"RAY_health_check_{name}": str(value) for name, value in HEALTH_CHECK.items()}
    environment.pop("RAY_ADDRESS", None)
    with (folder / "start.log").open("ab") as log:
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", *options]
        settings = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": subprocess.STDOUT, "cwd": folder}
        return RayNode(subprocess.Popen(command, env=environment, start_new_session=True, **settings))


def _await_nodes(address: str, nodes: Sequence[RayNode], folder: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and all(node.process.poll() is None for node in nodes):
        with contextlib.suppress(Exception):  # the head does not answer yet
            if living_nodes(address) == len(nodes):
                return
        time.sleep(0.5)
    raise RuntimeError((folder / "start.log").read_text())


def _end(nodes: Sequence[RayNode], folder: Path) -> None:
    family = [member for node in nodes for member in node.family()]
    family += [member for member in psutil.process_iter() if was_started_in(member, folder)]
    for member in family:
        with contextlib.suppress(psutil.Error):
            member.kill()
    for node in nodes:
        node.process.wait(timeout=20)
    psutil.wait_procs(family, timeout=20)
