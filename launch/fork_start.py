"""The driver's side of the fork server: started before an own cluster's node, told of it, and ended after it.

Its process may be started earlier still, by `started_early`, before it is known what to serve: it imports torch, which
takes longest of all, while this process still reads what it was asked for.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.allocation import allocation_environment, has_limited_address_space
from launch.forked_worker import ORDINARY_VARIABLE, SOCKET_VARIABLE
from launch.gpus import has_device_file

SWITCH_VARIABLE = "ADAPTERTUNE_FORK"
"""Set to 0, workers start in Ray's way."""

# Its first line of standard input names a file with what it is set up with; it reads no byte more.
_PROGRAM = """
import sys
if not sys.flags.safe_path:
    del sys.path[0]
import gc, json, os, pathlib
before = dict(os.environ)
gc.disable()
for module in sys.argv[2:]:
    try:
        __import__(module)
    except Exception:
        pass
gc.freeze()
gc.enable()
line = b""
while not line.endswith(b"\\n"):
    line += os.read(0, 1) or os._exit(0)
setup = json.loads(pathlib.Path(os.fsdecode(line[:-1])).read_text())
errors = os.open(setup["errors"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
os.dup2(errors, 2)
os.close(errors)
os.chdir(setup["staged"])
sys.path.insert(0, setup["staged"])
from launch.fork_server import main
main(int(sys.argv[1]), before, setup)
"""
_EARLY_MODULES = ("torch",)
_EARLY_THREADS = 1
_LATER_VARIABLES = re.compile("RAY_.*|ADAPTERTUNE_.*|GLIBC_TUNABLES|OMP_NUM_THREADS|MLFLOW_.*")
"""What this process sets on its way to a cluster; torch's import reads none of it."""
_THREADS_VARIABLE = "OMP_NUM_THREADS"
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


class _Process:
    """The server's process, and the socket that it is to listen at, which has no address yet."""

    def __init__(self, threads: int, folder: Path, modules: Sequence[str] = ()) -> None:
        self.threads = threads
        self.environment = {**os.environ, **allocation_environment(), _THREADS_VARIABLE: str(threads)}
        self.listener = socket.socket(socket.AF_UNIX)
        with contextlib.ExitStack() as failed:
            failed.enter_context(self.listener)
            # Where this process has no standard files, the socket's descriptor may be one of theirs.
            descriptor = fcntl.fcntl(self.listener, fcntl.F_DUPFD_CLOEXEC, _FIRST_DESCRIPTOR)
            try:
                self._popen = subprocess.Popen(
                    [sys.executable, "-c", _PROGRAM, str(descriptor), *modules],
                    bufsize=0,
                    cwd=folder,
                    env=self.environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=[descriptor],
                    start_new_session=True,
                )
            finally:
                os.close(descriptor)
            failed.pop_all()

    def serves(self, threads: int) -> bool:
        """Return whether it lives, and would import now what it has imported."""
        names = self.environment.keys() | os.environ.keys()
        differing = {name for name in names if self.environment.get(name) != os.environ.get(name)}
        is_like = all(_LATER_VARIABLES.fullmatch(name) for name in differing)
        return is_like and self.threads == threads and self._popen.poll() is None

    @property
    def pid(self) -> int:
        return self._popen.pid

    def write(self, line: str) -> None:
        """Write to its standard input, less than a pipe holds; where it has died, workers start in Ray's way."""
        assert self._popen.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._popen.stdin.write(os.fsencode(f"{line}\n"))

    def end(self, patience_seconds: float = 0.0) -> None:
        """End it, by force where it does not end by itself."""
        assert self._popen.stdin is not None
        self.listener.close()
        self._popen.stdin.close()
        try:
            self._popen.wait(patience_seconds)
        except subprocess.TimeoutExpired:  # in the middle of an import
            self._popen.kill()
            self._popen.wait()


_early: list[_Process] = []
"""The process that was started early, until a node takes it."""


@contextlib.contextmanager
def started_early() -> Iterator[None]:
    """Start the process of a server that a node may take meanwhile; on the way out one that none has taken ends.

    It is not started on a single CPU, where it would only be in the way, nor where Python's path names the folder that
    one is in.
    """
    path = os.environ.get("PYTHONPATH") or "/"
    has_plain_path = all(Path(entry).is_absolute() for entry in path.split(os.pathsep))
    if may_fork() and has_plain_path and len(os.sched_getaffinity(0)) > 1:
        with contextlib.suppress(OSError):
            _early.append(_Process(_EARLY_THREADS, Path("/"), _EARLY_MODULES))
    try:
        yield
    finally:
        end_early()


def end_early() -> None:
    """End the process that was started early, where no node has taken it."""
    while _early:
        _early.pop().end()


class ServedNode:
    """An own cluster's node whose workers come from a fork server, if there is one."""

    def __init__(self) -> None:
        """Describe a node without one."""
        self._process: _Process | None = None
        self._socket, self._program = "", ""

    def start_server(self, folder: Path, staged: Path, preload: Preload) -> None:
        """Start the server, or take the one that was started early; what it imports takes its time while others start.

        Args:
            folder: This run's own.
            staged: Where the workers' sources lie.
            preload: What to import.
        """
        self._socket, self._program = str(folder / "workers.sock"), str(staged / "launch" / "forked_worker.py")
        if _early and _early[0].serves(preload.threads):
            self._process = _early.pop()
        else:
            end_early()
            self._process = _Process(preload.threads, staged)
        setup = {
            "staged": str(staged),
            "errors": str(folder / "fork_server.err"),
            "environment": {**os.environ, _THREADS_VARIABLE: str(preload.threads)},
            "worker_modules": preload.worker_modules,
            "rank_modules": preload.rank_modules,
        }
        with self._process.listener as listener:
            listener.bind(self._socket)
            listener.listen(socket.SOMAXCONN)
        description = folder / "fork_server.json"
        description.touch(mode=0o600)  # the environment has the cluster's token
        description.write_text(json.dumps(setup), encoding="ascii")
        self._process.write(str(description))

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
        if self._process is not None:
            self._process.end(_END_SECONDS)
            self._process = None

    def tell(self, raylet: int) -> None:
        """Tell the server of its node: workers know their raylet by its process id."""
        assert self._process is not None
        self._process.write(str(raylet))


def may_fork() -> bool:
    """Return whether workers may be forked here.

    They may on Linux, unless it is forbidden: not where there are GPUs, whose driver bears no fork, and not where the
    address space is limited, since a forked worker has all that was imported in its own.
    """
    allowed = os.environ.get(SWITCH_VARIABLE) != "0"
    return sys.platform == "linux" and allowed and not has_device_file() and not has_limited_address_space()
