"""The fork server: a process that has imported what workers need, and becomes one as often as Ray asks.

By itself Ray starts two interpreters one after the other on the way to a worker, and then each worker imports torch and
DeepSpeed anew. `forked_worker.py` asks here instead: the server forks, and its child takes on the caller's arguments,
environment, folder and files, and runs Ray's own worker. What was imported stays shared in memory.

A child must be what a process of its own would be. So the server refuses, and the worker starts in Ray's way, where
- the environment asked for is another than the one that the server imported under, but for what imports set;
- a thread of Python's runs here, which a fork would not take along. (The threads of numpy's OpenBLAS and of Arrow's
  allocator are their libraries' own, which see to a fork.)
- two children would draw the same random identities, since something has drawn one here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import os
import resource
import runpy
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark.garbage import lasting_imports
from launch.forked_worker import DONE, LENGTH_BYTES, ORDINARY_VARIABLE, READY, SOCKET_VARIABLE, runtime_context

_RAY_MODULES = (
    "ray._private.workers.setup_worker",
    "ray._private.workers.default_worker",
    "ray._private.runtime_env.context",
)
_RAYLET_VARIABLES = ("RAY_RAYLET_PID", "RAY_JOB_ID")
"""What Ray tells its workers, and reads but once, when it is imported."""

_FIRST_JOB = "01000000"
_MAY_DIFFER = {SOCKET_VARIABLE, ORDINARY_VARIABLE, "RAY_LD_PRELOAD_ON_WORKERS", "SPT_NOENV", "OMP_NUM_THREADS"}
"""Variables that may be other ones than the server's: no import reads the first four, and each rank sets the last."""

_READ_LATER = {"PL_DISABLE_FORK", "RAY_CHDIR_TO_TRIAL_DIR"}
"""What Ray Tune's runtime environment gives a worker, which no import reads either."""

_REQUEST_SECONDS = 10.0

_OOM_SCORE = Path("/proc/self/oom_score_adj")


@dataclasses.dataclass(frozen=True)
class Request:
    """What a worker is to be started with, as its caller was.

    Attributes:
        arguments: Of Ray's `setup_worker.py`.
        environment: The variables.
        folder: The working directory.
        blocked_signals: Their numbers.
        limits: The resource limits, soft and hard, by their names in `resource`.
        oom_score: How readily the kernel ends it when memory runs out, as in `/proc/self/oom_score_adj`.
        descriptors: Of the standard files.
        connection: Where the worker says that it runs.
    """

    arguments: list[str]
    environment: dict[str, str]
    folder: str
    blocked_signals: list[int]
    limits: dict[str, list[int]]
    oom_score: str
    descriptors: list[int]
    connection: socket.socket

    @classmethod
    def read(cls, connection: socket.socket, stack: contextlib.ExitStack) -> Request:
        """Read what `forked_worker.py` sends; the standard files are closed with the stack.

        Raises:
            OSError, ValueError: The caller has gone, or takes too long.
        """
        head, descriptors, _, _ = socket.recv_fds(connection, LENGTH_BYTES, 3)
        for descriptor in descriptors:
            stack.callback(os.close, descriptor)
        with connection.makefile("rb") as file:
            values = json.loads(file.read(int.from_bytes(head, "little")))
        return cls(**values, descriptors=descriptors, connection=connection)

    @property
    def import_environment(self) -> dict[str, str]:
        """The variables that imports would find, those of the runtime environment included."""
        added = runtime_context(self.arguments).get("env_vars") or {}
        return self.environment | {name: value for name, value in added.items() if name not in _READ_LATER}


class ForkServer:
    """Imports, and forks for one caller after the other."""

    def __init__(
        self,
        listener: socket.socket,
        environment: Mapping[str, str],
        worker_modules: Sequence[str],
        rank_modules: Sequence[str],
    ) -> None:
        """Prepare; nothing is imported yet.

        Args:
            listener: Where callers connect.
            environment: The driver's; this process's has what imports have set, besides.
            worker_modules: What every worker imports; after Ray, so once its node stands.
            rank_modules: What ranks import, and can be imported before.
        """
        self._listener = listener
        self._worker_modules = [*_RAY_MODULES, *worker_modules]
        self._rank_modules = list(rank_modules)
        self._environment = dict(environment)
        self._is_node_there = False
        self._num_checked = 0
        self._children: set[int] = set()

    def serve(self) -> Request | None:
        """Serve until the driver has gone; in a child, return what it was forked for."""
        signal.signal(signal.SIGCHLD, self._reap)
        while True:
            is_idle = not self._rank_modules and not (self._worker_modules and self._is_node_there)
            ready, _, _ = select.select([self._listener, sys.stdin], [], [], None if is_idle else 0)
            if sys.stdin in ready:
                raylet = sys.stdin.readline().strip()
                if not raylet:
                    return None
                self._learn(raylet)
            elif self._worker_modules and self._is_node_there:
                _import(self._worker_modules.pop(0))
            elif self._listener in ready:
                request = self._answer()
                if request is not None:
                    return request
            else:
                _import(self._rank_modules.pop(0))

    def _learn(self, raylet: str) -> None:
        told = dict(zip(_RAYLET_VARIABLES, (raylet, _FIRST_JOB), strict=True))
        os.environ.update(told)
        self._environment |= told
        self._is_node_there = True

    def _answer(self) -> Request | None:
        """Fork for the next caller, or leave it without an answer; in the child, return the request."""
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError, ValueError):
            connection = stack.enter_context(self._listener.accept()[0])
            connection.settimeout(_REQUEST_SECONDS)
            connection.sendall(READY)
            request = Request.read(connection, stack)
            if self._may_fork(request):
                child = os.fork()
                if child == 0:
                    stack.pop_all()  # the files and the answer are the child's now
                    return self._with_import_variables(request)
                self._children.add(child)
                self._reap()
        return None

    def _with_import_variables(self, request: Request) -> Request:
        """Add the variables that imports have set here, as they would in a process of the worker's own."""
        added = {name: value for name, value in os.environ.items() if name not in self._environment}
        return dataclasses.replace(request, environment={**added, **request.environment})

    def _reap(self, *signalled: object) -> None:
        """Reap the children that have ended, and no others: an import may wait for a process of its own."""
        for child in list(self._children):
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(child, os.WNOHANG)[0] == child:
                    self._children.discard(child)

    def _may_fork(self, request: Request) -> bool:
        wanted, own = request.import_environment, self._environment
        differing = {name for name in wanted.keys() | own.keys() if wanted.get(name) != own.get(name)}
        # What imports have set here, they may have set in the driver too, before it started its node.
        added = {name: value for name, value in os.environ.items() if name not in own}
        differing -= {name for name, value in added.items() if wanted.get(name) == value}
        return differing <= _MAY_DIFFER and threading.active_count() == 1 and self._draws_apart()

    def _draws_apart(self) -> bool:
        """Return whether children draw different identities; asked of two of them after every import."""
        if len(sys.modules) != self._num_checked:
            if _drawn_by_a_child() == _drawn_by_a_child():
                return False
            self._num_checked = len(sys.modules)
        return True


def _drawn_by_a_child() -> bytes:
    from ray import ObjectID

    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, ObjectID.from_random().binary())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        identity = file.read()
    os.waitpid(child, 0)
    return identity


def _import(module: str) -> None:
    with lasting_imports(), _classes_named_apart(), contextlib.suppress(Exception):
        importlib.import_module(module)  # where it fails, the worker that needs it says so


@contextlib.contextmanager
def _classes_named_apart() -> Iterator[None]:
    """Name Ray's actor classes without Ray's generator, whose state children would go on with, all from the same."""
    actor: Any = sys.modules.get("ray.actor")
    if actor is None:
        yield
        return
    ordinary = actor.ActorClassID

    class Named:
        @staticmethod
        def from_random() -> Any:
            return ordinary(os.urandom(ordinary.size()))

    actor.ActorClassID = Named
    try:
        yield
    finally:
        actor.ActorClassID = ordinary


def _become_worker(request: Request) -> None:
    """Take on what the caller was started with, answer it, and run what it was started for.

    Where anything fails on the way, the caller gets no answer, and becomes the worker itself.
    """
    try:
        _take_on(request)
        request.connection.sendall(DONE)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    request.connection.close()
    runpy.run_path(sys.argv[0], run_name="__main__")


def _take_on(request: Request) -> None:
    from ray._private.utils import update_envs
    from ray._private.workers import setup_worker

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for target, descriptor in enumerate(request.descriptors):
        os.dup2(descriptor, target)
        os.close(descriptor)
    os.setpgid(0, 0)  # as Ray does with each: the children of a worker that has died are ended by their group
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.environment)
    for name, (soft, hard) in request.limits.items():
        if resource.getrlimit(getattr(resource, name)) != (soft, hard):
            resource.setrlimit(getattr(resource, name), (soft, hard))
    if _OOM_SCORE.read_text(encoding="ascii") != request.oom_score:
        _OOM_SCORE.write_text(request.oom_score, encoding="ascii")
    signal.pthread_sigmask(signal.SIG_SETMASK, request.blocked_signals)
    if "numpy.random" in sys.modules:  # Python's own generator sees to a fork, NumPy's does not
        sys.modules["numpy.random"].seed()
    _, sys.argv = setup_worker.parser.parse_known_args(request.arguments)
    update_envs(runtime_context(request.arguments).get("env_vars") or {})


def main(listener: int, before: Mapping[str, str], setup: Mapping[str, Any]) -> None:
    """Serve on a listening socket.

    The driver holds the standard input open, and writes the process id of its node's raylet there.

    Args:
        listener: The socket's descriptor.
        before: The environment that this process was started with; what differs by now, imports have set.
        setup: What to import, and the environment to do so in: the driver's, which has gone on since.
    """
    set_by_imports = {name: value for name, value in os.environ.items() if before.get(name) != value}
    os.environ.clear()
    os.environ.update(set_by_imports | setup["environment"])
    with socket.socket(fileno=listener) as server:
        served = ForkServer(server, setup["environment"], setup["worker_modules"], setup["rank_modules"]).serve()
    if served is None:
        os._exit(0)  # there is nothing to tidy up, and looking through all that was imported takes a second
    _become_worker(served)
