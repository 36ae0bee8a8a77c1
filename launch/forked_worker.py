"""What Ray starts for a worker of an own cluster: it asks the fork server for one, or becomes one in Ray's way.

A script of its own, with the arguments of Ray's `setup_worker.py`, which gets them wherever the server does not: where
there is none any more, where it is busy for too long, and where the worker is not like the server. Nothing but the
standard library is imported, so all of it takes a tenth of a second.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import Any

SOCKET_VARIABLE = "ADAPTERTUNE_FORK_SERVER"
"""Where the server listens."""
ORDINARY_VARIABLE = "ADAPTERTUNE_SETUP_WORKER"
"""Path of Ray's own `setup_worker.py`."""

READY, DONE = b"+", b"."
"""The server attends; the worker runs, as it says itself."""

LENGTH_BYTES = 4
_PATIENCE_SECONDS = 20.0
_CONTEXT = "--serialized-runtime-env-context="
_OTHER_STARTS = ("command_prefix", "override_worker_entrypoint", "java_jars")
_LIMITS = [name for name in dir(resource) if name.startswith("RLIMIT_")]
_OOM_SCORE = Path("/proc/self/oom_score_adj")


def main(arguments: list[str]) -> None:
    """Ask for a worker with these arguments and leave; where none is forked become one."""
    if not (_is_plain(arguments) and _is_forked(arguments)):
        os.execv(sys.executable, [sys.executable, os.environ[ORDINARY_VARIABLE], *arguments])  # noqa: S606 -- this very interpreter


def runtime_context(arguments: list[str]) -> dict[str, Any]:
    """Return what Ray passes on of a worker's runtime environment; nothing where it has none."""
    given = next((argument for argument in arguments if argument.startswith(_CONTEXT)), _CONTEXT)
    context: dict[str, Any] = json.loads(given.removeprefix(_CONTEXT) or "{}")
    return context


def _is_plain(arguments: list[str]) -> bool:
    """Return whether the worker is this Python's, and not in a container."""
    context = runtime_context(arguments)
    return (
        "--language=PYTHON" in arguments
        and context.get("py_executable") in (None, sys.executable)
        and not any(context.get(name) for name in _OTHER_STARTS)
    )


def _is_forked(arguments: list[str]) -> bool:
    with contextlib.suppress(OSError, KeyError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_PATIENCE_SECONDS)
        connection.connect(os.environ[SOCKET_VARIABLE])
        # Only a server that attends learns for whom: one that comes too late forks for nobody.
        if connection.recv(1) == READY:
            connection.settimeout(None)
            request = json.dumps(_request(arguments)).encode()
            socket.send_fds(connection, [len(request).to_bytes(LENGTH_BYTES, "little")], [0, 1, 2])
            connection.sendall(request)
            return connection.recv(1) == DONE
    return False


def _request(arguments: list[str]) -> dict[str, object]:
    return {
        "arguments": arguments,
        "environment": dict(os.environ),
        "folder": str(Path.cwd()),
        "blocked_signals": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
        "limits": {name: resource.getrlimit(getattr(resource, name)) for name in _LIMITS},
        "oom_score": _OOM_SCORE.read_text(encoding="ascii"),
    }


if __name__ == "__main__":
    main(sys.argv[1:])
