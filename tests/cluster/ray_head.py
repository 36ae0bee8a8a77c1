"""A real Ray head with its dashboard on a free port of the loopback address, and its end."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.cluster.aftermath import was_started_in
from tests.ports import free_ports

START_SECONDS = 90.0
_NEEDED = ("aiohttp_cors", "opencensus", "prometheus_client", "colorful")
MISSING_FOR_THE_DASHBOARD = [name for name in _NEEDED if importlib.util.find_spec(name) is None]


@dataclass(frozen=True)
class Head:
    """Where a running head is found."""

    dashboard: str
    gcs: str
    home: Path


@contextlib.contextmanager
def ray_head(num_cpus: int = 2, num_gpus: int = 0) -> Iterator[Head]:
    """Start a head as a cluster's administrator does, in a shell where the suite's environment is active."""
    # Below the usual temporary folder a socket's path would be too long.
    with tempfile.TemporaryDirectory(prefix="ray-head-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        gcs_port, dashboard_port, agent_port = free_ports(3)
        size = [f"--num-cpus={num_cpus}", f"--num-gpus={num_gpus}"]
        process = _start(Path(folder), size, gcs_port, dashboard_port, agent_port)
        head = Head(f"http://127.0.0.1:{dashboard_port}", f"127.0.0.1:{gcs_port}", Path(folder, "home"))
        try:
            _await_dashboard(head, process)
            yield head
        finally:
            _end(process, Path(folder))


def _start(folder: Path, size: list[str], gcs: int, dashboard: int, agent: int) -> subprocess.Popen[bytes]:
    home = folder / "home"
    home.mkdir()
    options = ["--head", "--block", "--node-ip-address=127.0.0.1", f"--port={gcs}", *size]
    options += ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--temp-dir={folder / 'ray'}"]
    options += [f"--dashboard-agent-listen-port={agent}", "--disable-usage-stats"]
    environment = {**os.environ, "HOME": str(home), "RAY_AUTH_MODE": "disabled"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for name in ("RAY_ADDRESS", "PYTHONPATH", "ADAPTERTUNE_OUTPUT"):
        environment.pop(name, None)
    with Path(folder, "start.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", "start", *options],
            cwd=home,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _await_dashboard(head: Head, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{head.dashboard}/api/version", timeout=5):
            return
        time.sleep(0.5)
    raise RuntimeError((head.home.parent / "start.log").read_text())


def _end(process: subprocess.Popen[bytes], folder: Path) -> None:
    """End the head by the processes that it started, and those that were started in its folder; no others."""
    family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=20)
    family += [one for one in psutil.process_iter() if was_started_in(one, folder)]
    for one in family:
        with contextlib.suppress(psutil.Error):
            one.kill()
    psutil.wait_procs(family, timeout=10)
