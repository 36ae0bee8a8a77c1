"""Workers of an own cluster that are forked, and a study whose ranks are: the same results as in Ray's way."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from launch.cluster import connect
from launch.fork_start import SWITCH_VARIABLE, Preload
from launch.ranks import TrialProgram
from tests.cluster.aftermath import logits_of, losses, results
from tests.cluster.study_command import ONE_AT_A_TIME, REPOSITORY, start_run, write_study
from tuning.scheduler import WORKER_MODULES
from tuning.study import load_study

SERVER = "launch.fork_server"


def is_server(pid: int) -> bool:
    return any(SERVER in argument for argument in psutil.Process(pid).cmdline())


@pytest.mark.timeout(200)
def test_workers_are_forked_with_all_that_ranks_import_until_the_server_was_killed() -> None:
    import ray

    class Tells:
        def parent(self) -> int:
            return os.getppid()

        def has(self, module: str) -> bool:
            return module in sys.modules

    with connect("local", 2, preload=Preload(WORKER_MODULES, TrialProgram().modules, threads=1)):
        actor = ray.remote(num_cpus=1)(Tells)
        first = actor.remote()
        server = ray.get(first.parent.remote(), timeout=60)
        assert is_server(server)
        deadline = time.monotonic() + 60
        while not ray.get(first.has.remote("deepspeed")) and time.monotonic() < deadline:
            ray.kill(first)
            first = actor.remote()
            assert ray.get(first.parent.remote(), timeout=60) == server
        assert ray.get(first.has.remote("deepspeed"))
        assert not ray.get(first.has.remote("mlflow")), "a rank imports DeepSpeed without it"
        os.kill(server, signal.SIGKILL)
        psutil.wait_procs([psutil.Process(server)], timeout=10)
        second = actor.remote()
        assert not is_server(ray.get(second.parent.remote(), timeout=60))
        assert not ray.get(second.has.remote("deepspeed"))
        assert ray.get(first.has.remote("deepspeed")), "a worker outlives the server that forked it"
        assert any("--minimal" in part for one in psutil.Process().children() for part in one.cmdline()), (
            "see lean_node"
        )


# Ray sets variables when it is imported: in a driver that has not imported it before, after the server has started.
PROGRAM = """
import os, psutil
from launch.cluster import connect
from launch.fork_start import Preload

def parent():
    return os.getppid()

with connect("local", 1, preload=Preload(("json",), ("json",), threads=1)):
    import ray
    process = psutil.Process(ray.get(ray.remote(parent).remote(), timeout=60))
    print(any("launch.fork_server" in part for part in process.cmdline()))
"""


@pytest.mark.timeout(200)
def test_workers_are_forked_when_the_driver_imports_ray_for_its_cluster(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180, check=False
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def server_with_workers(driver: int) -> psutil.Process:
    """The fork server of a run, once it has forked."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for child in psutil.Process(driver).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if is_server(child.pid) and child.children():
                    return child
        time.sleep(0.05)
    raise AssertionError("no worker was forked")


@pytest.mark.timeout(200)
def test_run_takes_the_server_that_has_imported_torch_since_its_first_moment(tmp_path: Path) -> None:
    study = write_study(tmp_path, "early", ["head_only"], [0], resources={"cpus_per_worker": 1})
    process = start_run(study, tmp_path / "output")
    arguments = server_with_workers(process.pid).cmdline()
    _, messages = process.communicate(timeout=150)
    assert process.returncode == 0, messages
    assert arguments[-1] == "torch"


@pytest.mark.timeout(300)
def test_results_are_those_of_ranks_that_were_not_forked(tmp_path: Path) -> None:
    methods = ["head_only", {"name": "adaptertune", "rank": 2}]
    study = write_study(tmp_path, "forked", methods, [0], resources=ONE_AT_A_TIME)
    trials = load_study(str(study)).trials
    ways = {"forked": {}, "ordinary": {SWITCH_VARIABLE: "0"}}
    for name, environment in ways.items():
        process = start_run(study, tmp_path / name, **environment)
        _, messages = process.communicate(timeout=280)
        assert process.returncode == 0, messages
    forked, ordinary = (results(tmp_path / name, [trial.spec.trial_id for trial in trials]) for name in ways)
    assert len(forked) == 2
    assert {key: losses(one) for key, one in forked.items()} == {key: losses(one) for key, one in ordinary.items()}
    for trial in trials:
        one, other = (logits_of(tmp_path / name, trial).tobytes() for name in ways)
        assert one == other
