"""Several hosts on one machine: network namespaces with addresses of their own, on a bridge whose links can be cut.

Each host sees its own processes, its own /dev/shm and, but for the first, its own empty folder where the first keeps
its files, so that nothing passes between them but over the network. Names and interfaces live in the namespaces: when
their first processes end, the kernel ends all others in them and removes the links.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tuning.ledger import Ledger

REPOSITORY = Path(__file__).parents[2]
GCS_PORT = 6379
"""Free in a namespace that nobody else is in."""
START_SECONDS = 120.0
PATIENCE_SECONDS = 300.0
FAST_HEALTH_CHECK = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}
_TOKEN = "t" * 64
_KEEP_ALIVE = "while :; do sleep 60 & wait; done"
"""What the first process of a host does: it also takes leave of processes that lost their parents."""
_ENDED_WITH_US = ["setpriv", "--pdeathsig", "KILL"]


def why_not_here() -> str | None:
    """Return why this machine lets nobody make hosts; none where it does."""
    tried = (
        "mount -t tmpfs tmpfs /dev/shm && ip link add name a type veth peer name b && ip link add name c type bridge"
    )
    command = ["unshare", "--net", "--mount", "--pid", "--fork", "sh", "-c", tried]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        return f"{error.filename} is not installed (Debian: util-linux, iproute2)"
    except subprocess.CalledProcessError as error:
        return f"network namespaces are not permitted here: {error.stderr.strip()}"
    return None


@dataclass
class Host:
    """One host.

    Attributes:
        number: Counted from 1.
        folder: Where it keeps Ray's files and its home; every host but the first has its own under this path.
        process: The first of its processes, as this process's system numbers it.
        switch: The first process of the namespace that the links end in.
        ray: Its `ray start`, while that runs.
    """

    number: int
    folder: Path
    process: psutil.Process
    switch: psutil.Process
    ray: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def address(self) -> str:
        """Its address on the bridge."""
        return f"10.77.0.{self.number}"

    @property
    def interface(self) -> str:
        """The name of its interface, different on each."""
        return f"up{self.number}"

    @property
    def environment(self) -> dict[str, str]:
        """What its shell has set: a home of its own, and the cluster's token."""
        without = ("RAY_ADDRESS", "PYTHONPATH", "ADAPTERTUNE_OUTPUT", "ADAPTERTUNE_CACHE", "TMPDIR")
        inherited = {name: value for name, value in os.environ.items() if name not in without}
        own = {
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "t"),
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONUNBUFFERED": "1",
        }
        return {**inherited, **own, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": _TOKEN, **FAST_HEALTH_CHECK}

    def entered(self, *command: str) -> list[str]:
        """Return the command line that runs a command on this host."""
        return ["nsenter", f"--target={self.process.pid}", "--net", "--mount", "--pid", "--", *command]

    def output_of(self, *command: str) -> str:
        """Run a command here and return what it prints."""
        entered = self.entered(*command)
        return subprocess.run(entered, env=self.environment, check=True, capture_output=True, text=True).stdout

    def start_ray(self, num_cpus: int) -> None:
        """Start Ray: the first host's is the head. Returns when the host has joined."""
        where = ["--head", f"--port={GCS_PORT}", f"--temp-dir={self.folder / 'ray'}", "--include-dashboard=false"]
        where = where if self.number == 1 else [f"--address=10.77.0.1:{GCS_PORT}"]
        options = ["--block", f"--node-ip-address={self.address}", f"--num-cpus={num_cpus}", "--disable-usage-stats"]
        command = self.entered(sys.executable, "-m", "ray.scripts.scripts", "start", *where, *options)
        log = self.folder / f"ray-start-{self.number}.log"
        with log.open("ab") as file:
            self.ray = subprocess.Popen(
                [*_ENDED_WITH_US, *command], env=self.environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file
            )
        began, position = time.monotonic(), log.stat().st_size
        while b"Ray runtime started" not in log.read_bytes()[position:]:
            assert self.ray.poll() is None and time.monotonic() < began + START_SECONDS, log.read_text()
            time.sleep(0.2)

    def python(self, *arguments: str) -> subprocess.Popen[str]:
        """Start Python here, as someone does who is logged in."""
        return subprocess.Popen(
            [*_ENDED_WITH_US, *self.entered(sys.executable, *arguments)],
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self) -> None:
        """End the host at once, with all of its processes, as a cut power line does."""
        self.process.kill()

    def set_link(self, state: str) -> None:
        """Cut the host off (`down`) or heal its link (`up`)."""
        _in_switch(self.switch, f"ip link set port{self.number} {state}")


@contextlib.contextmanager
def linked_hosts(count: int) -> Iterator[list[Host]]:
    """Make hosts on one bridge; at the end nothing of them is left."""
    # Below the usual temporary folder a socket's path would be too long.
    with contextlib.ExitStack() as stack:
        stack.callback(_end_all, started := [])
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="h-", dir="/tmp")))
        stack.callback(_end_all, started)
        switch = _started(started, [*_ENDED_WITH_US, "unshare", "--net", "sleep", "infinity"])
        _await(lambda: switch.name() == "sleep")
        _in_switch(switch, "ip link set lo up && ip link add name hub type bridge && ip link set hub up")
        yield [_host(started, number, folder, switch) for number in range(1, count + 1)]


def last_epoch(output: Path, trial_id: str) -> int:
    """Return the last epoch that a ledger holds of a trial; -1 before the first."""
    if not (output / "ledger.sqlite").exists():
        return -1
    with contextlib.closing(Ledger(output)) as ledger:
        entry = ledger.entries([trial_id]).get(trial_id)
    return -1 if entry is None or entry.epoch is None else entry.epoch


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait while a process runs."""
    ends = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < ends, "the study did not get so far"
        time.sleep(0.05)


def _host(started: list[psutil.Process], number: int, folder: Path, switch: psutil.Process) -> Host:
    own = f"mount -t tmpfs tmpfs {folder} && " if number > 1 else ""
    own += f"mount -t tmpfs tmpfs /dev/shm && mkdir -p {folder}/home {folder}/t && ip link set lo up && {_KEEP_ALIVE}"
    apart = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    outer = _started(started, [*_ENDED_WITH_US, *apart, "sh", "-c", own])
    _await(lambda: any(child.children() for child in outer.children()))
    (first,) = outer.children()
    host = Host(number, folder, first, switch)
    _in_switch(
        switch,
        f"ip link add name port{number} type veth peer name {host.interface} netns {first.pid} && "
        f"ip link set port{number} master hub && ip link set port{number} up",
    )
    subprocess.run(host.entered("ip", "addr", "add", f"{host.address}/24", "dev", host.interface), check=True)
    subprocess.run(host.entered("ip", "link", "set", host.interface, "up"), check=True)
    return host


def _started(started: list[psutil.Process], command: list[str]) -> psutil.Process:
    process = psutil.Popen(command, stdin=subprocess.DEVNULL)
    started.append(process)
    return process


def _in_switch(switch: psutil.Process, script: str) -> None:
    subprocess.run(["nsenter", f"--target={switch.pid}", "--net", "sh", "-c", script], check=True)


def _await(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.05)


def _end_all(started: list[psutil.Process]) -> None:
    for process in started:
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGKILL)
    psutil.wait_procs(started, timeout=20)
