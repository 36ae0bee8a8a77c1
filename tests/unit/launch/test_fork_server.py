"""What Ray starts for a worker, run as Ray runs it: with a server that forks, and where there is none."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from launch import fork_start, forked_worker
from launch.fork_start import Preload, ServedNode
from launch.forked_worker import ORDINARY_VARIABLE, SOCKET_VARIABLE
from tests.cluster.aftermath import short_folder

REPOSITORY = Path(__file__).parents[3]
TELLS_WHAT_IT_IS = """
import json, os, sys
import numpy
from ray import ObjectID
print(json.dumps({
    "way": "forked",
    "arguments": sys.argv[1:],
    "folder": os.getcwd(),
    "pid": os.getpid(),
    "group": os.getpgid(0),
    "modules": list(sys.modules),
    "environment": dict(os.environ),
    "number": int(numpy.random.randint(2**31)),
    "identity": ObjectID.from_random().hex(),
}))
"""


def like_rays(**context: object) -> tuple[str, str]:
    """What Ray passes to a worker of a runtime environment."""
    return f"--serialized-runtime-env-context={json.dumps(context)}", "--language=PYTHON"


LIKE_RAYS = like_rays()


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path


@pytest.fixture
def worker(folder: Path) -> Path:
    """What a forked worker runs in place of Ray's `default_worker.py`; it says what it finds itself to be."""
    path = folder / "worker.py"
    path.write_text(TELLS_WHAT_IT_IS, encoding="utf-8")
    return path


@pytest.fixture
def environment(folder: Path, modules: Path) -> dict[str, str]:
    """A worker's, as Ray gives it."""
    ordinary = folder / "setup_worker.py"
    ordinary.write_text("import json, sys; print(json.dumps({'way': 'ordinary', 'arguments': sys.argv[1:]}))")
    return {
        **os.environ,
        "RAY_RAYLET_PID": str(os.getpid()),
        "RAY_JOB_ID": "01000000",
        SOCKET_VARIABLE: str(folder / "workers.sock"),
        ORDINARY_VARIABLE: str(ordinary),
    }


@pytest.fixture
def modules(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of modules that a server can import."""
    monkeypatch.setenv("PYTHONPATH", str(folder))
    (folder / "for_ranks.py").write_text("")
    (folder / "for_workers.py").write_text("import os; os.environ['SET_BY_AN_IMPORT'] = 'yes'")
    (folder / "draws.py").write_text("import ray; ray.ObjectID.from_random()")
    return folder


@contextlib.contextmanager
def serving(folder: Path, *worker_modules: str) -> Iterator[ServedNode]:
    """A server for a node whose raylet is this process."""
    node = ServedNode()
    node.start_server(folder, REPOSITORY, Preload(worker_modules, ("for_ranks",), threads=1))
    node.tell(os.getpid())
    try:
        yield node
    finally:
        node.end_server()


@pytest.fixture
def server(modules: Path) -> Iterator[ServedNode]:
    with serving(modules, "for_workers") as node:
        yield node


def start(environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, forked_worker.__file__, *arguments],
        env=environment,
        cwd=Path(environment[ORDINARY_VARIABLE]).parent,
        stdout=subprocess.PIPE,
        text=True,
    )


def told(environment: dict[str, str], *arguments: str) -> dict[str, Any]:
    """Start a worker and return what it printed: to the standard output that the caller was given."""
    output, _ = start(environment, *arguments).communicate(timeout=60)
    document: dict[str, Any] = json.loads(output)
    return document


def test_worker_is_forked_with_what_its_caller_was_given(server, environment, worker, folder) -> None:
    one = told(environment, *LIKE_RAYS, str(worker), "--node-id=7")
    assert one["way"] == "forked"
    assert "for_workers" in one["modules"]
    assert one["arguments"] == ["--node-id=7"]
    assert one["folder"] == str(folder)
    assert one["group"] == one["pid"], "Ray ends the children of a dead worker by their group"
    assert {name: one["environment"].get(name) for name in environment} == environment
    assert one["environment"]["SET_BY_AN_IMPORT"] == "yes"


def test_variables_of_the_runtime_environment_reach_the_worker(server, environment, worker) -> None:
    one = told(environment, *like_rays(env_vars={"TOLD": "by Ray Tune"}), str(worker))
    assert (one["way"], one["environment"]["TOLD"]) == ("forked", "by Ray Tune")


def test_two_workers_draw_different_identities_and_numbers(server, environment, worker) -> None:
    one, other = (told(environment, *LIKE_RAYS, str(worker)) for _ in range(2))
    assert one["way"] == other["way"] == "forked"
    assert one["identity"] != other["identity"]
    assert one["number"] != other["number"]


def test_server_forks_none_whose_identities_would_be_another_workers(modules, environment, worker) -> None:
    with serving(modules, "draws"):
        assert told(environment, *LIKE_RAYS, str(worker))["way"] == "ordinary"


@pytest.mark.parametrize(
    ("variables", "arguments"),
    [
        pytest.param({"KMP_BLOCKTIME": "1"}, LIKE_RAYS, id="another environment"),
        pytest.param({"RAY_JOB_ID": "02000000"}, LIKE_RAYS, id="another job"),
        pytest.param({}, ('--serialized-runtime-env-context={"py_executable": "uv run"}', LIKE_RAYS[1]), id="uv"),
        pytest.param(
            {}, ('--serialized-runtime-env-context={"command_prefix": ["podman"]}', LIKE_RAYS[1]), id="podman"
        ),
        pytest.param({}, (LIKE_RAYS[0], "--language=JAVA"), id="Java"),
    ],
)
def test_worker_that_is_not_like_the_server_starts_in_rays_way(
    server, environment, worker, variables, arguments
) -> None:
    one = told({**environment, **variables}, *arguments, str(worker))
    assert one == {"way": "ordinary", "arguments": [*arguments, str(worker)]}


def test_worker_starts_in_rays_way_once_the_server_is_gone(server, environment, worker) -> None:
    server.end_server()
    assert told(environment, *LIKE_RAYS, str(worker))["way"] == "ordinary"


def test_ended_worker_leaves_no_zombie(server, environment, worker) -> None:
    pid = told(environment, *LIKE_RAYS, str(worker))["pid"]
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(pid)


def test_nothing_is_forked_where_forbidden_or_where_a_gpu_is(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(fork_start, "_GPU_DEVICES", (str(tmp_path / "none"),))
    assert fork_start.may_fork()
    monkeypatch.setenv("ADAPTERTUNE_FORK", "0")
    assert not fork_start.may_fork()
    monkeypatch.delenv("ADAPTERTUNE_FORK")
    monkeypatch.setattr(fork_start, "_GPU_DEVICES", (str(tmp_path),))
    assert not fork_start.may_fork()
