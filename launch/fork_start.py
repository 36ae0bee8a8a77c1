"""The driver's side of the fork server: started before an own cluster's node, told of it, and ended after it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.allocation import has_limited_address_space
from launch.forked_worker import ORDINARY_VARIABLE, SOCKET_VARIABLE
from launch.gpus import has_device_file

SWITCH_VARIABLE = "ADAPTERTUNE_FORK"
"""Set to 0, workers start in Ray's way."""

_PROGRAM = """
import sys
sys.path[: 0 if sys.flags.safe_path else 1] = [sys.argv.pop(1)]
from launch.fork_server import main
main(*sys.argv[1:])
"""
_END_SECONDS = 1.0
_FIRST_DESCRIPTOR = 3


@dataclass(frozen=True)
class Preload:
    """What the workers of an own cluster are forked with.

    Attributes:
        worker_modules: What all of them import.
        rank_modules: What the ranks import besides, such as torch.
        threads: CPU threads of a rank's operations.
    """

    worker_modules: Sequence[str]
    rank_modules: Sequence[str]
    threads: int


class ServedNode:
    """An own cluster's node whose workers come from a fork server, if there is one."""

    def __init__(self) -> None:
        """Describe a node without one."""
        self._process: subprocess.Popen[bytes] | None = None
        self._socket, self._program = "", ""

    def start_server(self, folder: Path, staged: Path, preload: Preload) -> None:
        """Start the server; what it imports takes its time while others start.

        Args:
            folder: This run's own.
            staged: Where the workers' sources lie.
            preload: What to import.
        """
        self._socket, self._program = str(folder / "workers.sock"), str(staged / "launch" / "forked_worker.py")
        with socket.socket(socket.AF_UNIX) as listener, (folder / "fork_server.err").open("wb") as errors:
            listener.bind(self._socket)
            listener.listen(socket.SOMAXCONN)
            # Where this process has no standard files, the socket's descriptor may be one of theirs.
            descriptor = fcntl.fcntl(listener, fcntl.F_DUPFD_CLOEXEC, _FIRST_DESCRIPTOR)
            modules = (",".join(preload.worker_modules), ",".join(preload.rank_modules))
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-c", _PROGRAM, str(staged), str(descriptor), *modules],
                    bufsize=0,
                    cwd=staged,
                    env={**os.environ, "OMP_NUM_THREADS": str(preload.threads)},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    pass_fds=[descriptor],
                    start_new_session=True,
                )
            finally:
                os.close(descriptor)

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """Let the node that Ray starts meanwhile ask the server for its workers."""
        from ray._private import node as ray_node

        node_class: Any = ray_node.Node
        ordinary = node_class.start_raylet

        def start_raylet(node: Any, *arguments: Any, **options: Any) -> None:
            """Start it with another program for its workers, which finds the server and Ray's own by the variables."""
            parameters = node._ray_params
            os.environ |= {SOCKET_VARIABLE: self._socket, ORDINARY_VARIABLE: parameters.setup_worker_path}
            parameters.setup_worker_path = self._program
            try:
                ordinary(node, *arguments, **options)
            finally:
                del os.environ[SOCKET_VARIABLE], os.environ[ORDINARY_VARIABLE]
            self.tell(node.all_processes["raylet"][0].process.pid)

        node_class.start_raylet = start_raylet if self._process else ordinary
        try:
            yield
        finally:
            node_class.start_raylet = ordinary

    @property
    def server_id(self) -> int | None:
        """The server's process id, or none."""
        return self._process.pid if self._process else None

    def end_server(self) -> None:
        """End the server. The workers that it has forked are their node's, but it should see them end: they would be
        nobody's, and on some machines nobody takes leave of those.
        """
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            try:
                self._process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:  # in the middle of an import
                self._process.kill()
                self._process.wait()
            self._process = None

    def tell(self, raylet: int) -> None:
        """Tell the server of its node: workers know their raylet by its process id."""
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has died: then workers start in Ray's way
            self._process.stdin.write(f"{raylet}\n".encode())


def may_fork() -> bool:
    """Return whether workers may be forked here.

    They may on Linux, unless it is forbidden: not where there are GPUs, whose driver bears no fork, and not where the
    address space is limited, since a forked worker has all that was imported in its own.
    """
    allowed = os.environ.get(SWITCH_VARIABLE) != "0"
    return sys.platform == "linux" and allowed and not has_device_file() and not has_limited_address_space()
