"""Connecting to the machines: an own cluster for this run, or one that stands already.

An own cluster listens on the loopback address only, asks for a random token, keeps its files in one temporary folder
and leaves nothing behind: neither processes, nor files, nor shared memory.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import os
import re
import secrets
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.errors import MissingError, RequestError
from benchmark.folders import OWNER_FILE, TEMPORARY_PREFIX, claimed_folder, is_left_over, remove_claimed
from benchmark.provenance import GIT_VARIABLE, git_variable
from launch.allocation import allocation_environment
from launch.fork_start import Preload, ServedNode, may_fork
from launch.head_watch import RECONNECT_ENVIRONMENT, head_watched
from launch.interrupts import held_interrupts
from launch.lean_start import LEAN_ENVIRONMENT, lean_node
from launch.messages import logged_messages
from launch.patience import PATIENT_ENVIRONMENT, patient_start
from launch.resources import Node
from launch.staging import Sources, compile_sources, copy_sources

if TYPE_CHECKING:
    import psutil

_MAX_FOLDER_CHARACTERS = 40
"""Ray puts sockets below its folder under names of about 65 characters, and a socket's path may have 107."""

_CLUSTER_OF_SEVERAL_MACHINES = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray's switch; where it is off, a node's address may be that of the loopback."""

_HOST_AND_PORT = re.compile(r"^[^\s:/]+:\d+$|^\[[0-9A-Fa-f:]+\]:\d+$")
_START_HINT = "Start one with `ray start --head`, or use --address local."
_REACH_TIMEOUT_SECONDS = 10.0
_NODE_EXIT_TIMEOUT_SECONDS = 10.0
_LEAVE_SECONDS = 0.5
"""What Ray's workers get to leave by themselves; some take two seconds to notice that their node is gone."""

_NUM_REMOVALS = 20
_SECONDS_BETWEEN_REMOVALS = 0.25

_QUIET_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Under `uv run` Ray would otherwise rebuild the workers' environment.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    # Inside a submitted job the job's own working_dir would collide with the staged one.
    "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1",
}


@dataclass(frozen=True)
class Cluster:
    """The machines of a run.

    Attributes:
        address: As the user gave it.
        nodes: The living nodes and what they offer.
        driver_node_id: The node this process runs on.
        sources: The staged sources, which every worker's must equal.
        folder: This run's temporary folder, on the driver's node.
    """

    address: str
    nodes: tuple[Node, ...]
    driver_node_id: str
    sources: Sources
    folder: Path


@contextlib.contextmanager
def connect(
    address: str,
    num_cpus: int | None = None,
    meanwhile: Callable[[], None] = lambda: None,
    preload: Preload | None = None,
) -> Iterator[Cluster]:
    """Connect to a cluster; on the way out disconnect from it, and take an own one down with all it left.

    Args:
        address: `local` for an own cluster of this machine, `auto` or `HOST:PORT` for one that stands.
        num_cpus: CPUs of the own cluster; this process's share of the machine where none. Only with `local`.
        meanwhile: Called while an own cluster's processes start; for one that stands, before it is connected to.
        preload: What the workers of an own cluster are forked with, where they may be; none: they start in Ray's way.

    Raises:
        RequestError: The address is of no such form, or Ray Client's.
        MissingError: There is no cluster at the address, or its head is lost.
    """
    check_address(address, num_cpus)
    _check_reachable(address)
    remove_leftovers()
    with _own_folder() as folder, _environment(address):
        node = ServedNode()
        try:
            copy_sources(folder / "code")
            # First of all, since what it imports takes longest; this process itself has not imported Ray yet.
            if address == "local" and preload is not None and may_fork():
                node.start_server(folder, folder / "code", preload)
            with held_interrupts():
                _reread_settings()
            with logged_messages(), _disconnected_after(folder, node):
                sources = compile_sources(folder / "code")
                with held_interrupts():
                    _initialise(address, num_cpus, folder, meanwhile, node)
                # Without its head Ray may not even come to an end here: the watch sees to that too.
                with _watched(address), _disconnected_after(folder, node):
                    yield _describe(address, sources, folder)
        finally:
            node.end_server()


def remove_leftovers() -> None:
    """Remove what runs left that were killed: their temporary folders, and Ray's agents in them."""
    for owner_file in _temporary_root().glob(f"{TEMPORARY_PREFIX}*/{OWNER_FILE}"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            if is_left_over(owner_file):
                _end_processes_of(owner_file.parent, timeout_seconds=0)
                remove_claimed(owner_file.parent)


def living_nodes() -> tuple[Node, ...]:
    """Return the connected cluster's living nodes."""
    import ray

    return tuple(
        Node(
            node_id=str(node["NodeID"]),
            address=str(node["NodeManagerAddress"]),
            num_cpus=float(node["Resources"].get("CPU", 0)),
            num_gpus=float(node["Resources"].get("GPU", 0)),
        )
        for node in ray.nodes()
        if node["Alive"]
    )


def check_address(address: str, num_cpus: int | None = None) -> None:
    """Refuse an address of no known form, before anything is started or written.

    Raises:
        RequestError: It is Ray Client's, or none of `local`, `auto` and `HOST:PORT`; or CPUs are given for a cluster
            that is not this process's own.
    """
    rule = "give local, auto or HOST:PORT"
    if address.startswith("ray://"):
        hint = (
            "Ray Client would keep the results on the head node. Run this command there with --address auto, or send "
            "it there: adaptertune submit STUDY --address http://HEAD:8265"
        )
        raise RequestError("--address", address, rule, hint)
    if address not in ("local", "auto") and not _HOST_AND_PORT.match(address):
        raise RequestError("--address", address, rule)
    if address != "local" and num_cpus is not None:
        raise RequestError("num_cpus", num_cpus, "only an own cluster (--address local) can be given a number of CPUs")


def _check_reachable(address: str) -> None:
    """Refuse an address where nothing listens: Ray would go on trying for minutes.

    Raises:
        MissingError: Nothing listens there.
    """
    if address in ("local", "auto"):
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_TIMEOUT_SECONDS).close()
    except OSError as error:
        raise MissingError(f"There is no Ray cluster at {address!r}: {error}. {_START_HINT}") from error


def _initialise(
    address: str, num_cpus: int | None, folder: Path, meanwhile: Callable[[], None], node: ServedNode
) -> None:
    import ray

    staged = folder / "code"
    settings: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "configure_logging": True,
    }
    if address == "local":
        settings |= {
            "num_cpus": num_cpus or len(os.sched_getaffinity(0)),
            "include_dashboard": False,
            # Any other address, 127.0.0.2 too, and Ray's servers would listen on all of the machine's.
            "_node_ip_address": "127.0.0.1",
            "_temp_dir": str(folder),
        }
    else:
        meanwhile()
        variables = {GIT_VARIABLE: git_variable(), **allocation_environment()}
        settings["runtime_env"] = {"working_dir": str(staged), "env_vars": variables}
    try:
        # Ray puts the folder the driver is in first on the workers' path, unless they are given a working_dir. On this
        # machine the former spares a runtime environment, which costs each worker's start 1 to 2 s.
        with contextlib.chdir(staged), _own_start(meanwhile, node) if address == "local" else contextlib.nullcontext():
            ray.init(address=address, **settings)
    except ConnectionError as error:
        raise MissingError(f"There is no Ray cluster at {address!r}: {error} {_START_HINT}") from error
    except Exception as error:
        # When its own processes do not come in time, Ray raises nothing narrower than this.
        if type(error) is not Exception or address != "local":
            raise
        hint = "The machine may be overloaded: run the same command again."
        raise MissingError(f"Ray's own processes did not start here: {error} {hint}") from error


@contextlib.contextmanager
def _own_start(meanwhile: Callable[[], None], node: ServedNode) -> Iterator[None]:
    with patient_start(meanwhile=meanwhile), lean_node(), node.starting():
        yield


def _watched(address: str) -> contextlib.AbstractContextManager[None]:
    """Watch the head of a cluster that stands; an own one goes with this machine."""
    import ray

    own = address == "local"
    return contextlib.nullcontext() if own else head_watched(ray.get_runtime_context().gcs_address)


def _describe(address: str, sources: Sources, folder: Path) -> Cluster:
    import ray

    return Cluster(address, living_nodes(), ray.get_runtime_context().get_node_id(), sources, folder)


@contextlib.contextmanager
def _disconnected_after(folder: Path, node: ServedNode) -> Iterator[None]:
    try:
        yield
    finally:
        _disconnect(folder, node)


def _disconnect(folder: Path, node: ServedNode) -> None:
    import ray

    with _nothing_collected():
        ray.shutdown()
    _end_processes_of(folder, spared=node.server_id)
    node.end_server()


@contextlib.contextmanager
def _nothing_collected() -> Iterator[None]:
    """Free what is garbage now, and nothing until the block ends.

    Whichever thread allocates next may collect garbage. Where that drops a reference to an object of Ray's while Ray
    shuts down, Ray ends the whole process, with status 1: a study that was done, and not yet reported, would fail.
    """
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _end_processes_of(folder: Path, timeout_seconds: float = _LEAVE_SECONDS, spared: int | None = None) -> None:
    """Wait a little for the processes that were started from the folder, but the spared one, and end those that stay.

    `ray.shutdown` returns while workers are still on their way out, and they would write into the folder again. After a
    killed driver Ray's agents even stay for good.
    """
    import psutil

    processes = [process for process in _processes_of(folder) if process.pid != spared]
    _, alive = psutil.wait_procs(processes, timeout=timeout_seconds)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=_NODE_EXIT_TIMEOUT_SECONDS)


def _processes_of(folder: Path) -> Iterator[psutil.Process]:
    # Ray's processes change their titles, but not the folder that they were started in.
    import psutil

    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.cwd() and folder in Path(process.cwd()).parents:
                yield process


@contextlib.contextmanager
def _own_folder() -> Iterator[Path]:
    folder = claimed_folder(_temporary_root())
    try:
        yield folder
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a folder into which a process on its way out may still write: again, until it stays gone."""
    for _ in range(_NUM_REMOVALS):
        remove_claimed(folder)
        if not folder.exists():
            return
        time.sleep(_SECONDS_BETWEEN_REMOVALS)


def _temporary_root() -> Path:
    root = tempfile.gettempdir()
    return Path(root if len(root) + len(TEMPORARY_PREFIX) + 8 <= _MAX_FOLDER_CHARACTERS else "/tmp")  # noqa: S108


@contextlib.contextmanager
def _environment(address: str) -> Iterator[None]:
    changes = {**_QUIET_ENVIRONMENT, **RECONNECT_ENVIRONMENT, GIT_VARIABLE: git_variable()}
    if address == "local":
        # Unset, Ray would write a token into the user's home. In the environment only this run's processes see it.
        changes |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": _token()}
        # Unset, Ray replaces 127.0.0.1 by the machine's outer address on Linux.
        changes |= {_CLUSTER_OF_SEVERAL_MACHINES: "0", **PATIENT_ENVIRONMENT, **LEAN_ENVIRONMENT}
        changes |= allocation_environment()
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if "ray" in sys.modules:  # not where its import was interrupted
            _reread_settings()


@functools.cache
def _token() -> str:
    # One for the whole process: Ray reads it once and keeps it.
    return secrets.token_hex(32)


def _reread_settings() -> None:
    # Ray reads its settings when it is imported, which may have been earlier; it does the same for its own default.
    from ray._private import ray_constants
    from ray._raylet import Config  # type: ignore[attr-defined]

    Config.initialize("")
    ray_constants.ENABLE_RAY_CLUSTER = ray_constants.env_bool(_CLUSTER_OF_SEVERAL_MACHINES, sys.platform == "linux")
