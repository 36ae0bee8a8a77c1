"""What Ray starts for a worker, run as Ray runs it: with a server that forks, and where there is none."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from launch import fork_start, forked_worker, gpus
from launch.allocation import TUNABLES
from launch.fork_start import Preload, ServedNode
from launch.forked_worker import ORDINARY_VARIABLE, SOCKET_VARIABLE
from tests.cluster.aftermath import short_folder
from tuning.cli import _has_own_cluster

REPOSITORY = Path(__file__).parents[3]
TELLS_WHAT_IT_IS = """
import json, os, resource, sys
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
    "open_files": resource.getrlimit(resource.RLIMIT_NOFILE),
    "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd")),
    "identity": ObjectID.from_random().hex(),
}))
"""

DRIVER = """
import os, pathlib, subprocess, sys
from launch.fork_start import Preload, ServedNode
folder, staged, *worker = sys.argv[1:]
node = ServedNode()
node.start_server(pathlib.Path(folder), pathlib.Path(staged), Preload(("for_workers",), ("for_ranks",), threads=1))
node.tell(int(os.environ["RAY_RAYLET_PID"]))
subprocess.run([sys.executable, *worker], check=True, stdin=subprocess.DEVNULL)
node.end_server()
"""
OF_THE_PHASE = "PYTEST_CURRENT_TEST"
"""Another one in a fixture than in a test, and so in a server's environment than in its workers'."""


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
        **{name: value for name, value in os.environ.items() if name != OF_THE_PHASE},
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
    (folder / "breaks.py").write_text("import os; os.chdir = None")
    (folder / "draws.py").write_text("import ray; ray.ObjectID.from_random()")
    return folder


@contextlib.contextmanager
def serving(folder: Path, *worker_modules: str) -> Iterator[ServedNode]:
    """A server for a node whose raylet is this process."""
    node = ServedNode()
    os.environ.pop(OF_THE_PHASE, None)
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


def start(environment: dict[str, str], *arguments: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, forked_worker.__file__, *arguments],
        env=environment,
        cwd=Path(environment[ORDINARY_VARIABLE]).parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


def told(environment: dict[str, str], *arguments: str, **options: Any) -> dict[str, Any]:
    """Start a worker and return what it printed: to the standard output that the caller was given."""
    output, _ = start(environment, *arguments, **options).communicate(timeout=60)
    document: dict[str, Any] = json.loads(output)
    return document


def is_alive(node: ServedNode) -> bool:
    assert node.server_id is not None
    return psutil.Process(node.server_id).status() != psutil.STATUS_ZOMBIE


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
    one = told(environment, *like_rays(env_vars={"PL_DISABLE_FORK": "1"}), str(worker))
    assert (one["way"], one["environment"]["PL_DISABLE_FORK"]) == ("forked", "1")


def test_two_workers_draw_different_identities_and_numbers(server, environment, worker) -> None:
    one, other = (told(environment, *LIKE_RAYS, str(worker)) for _ in range(2))
    assert one["way"] == other["way"] == "forked"
    assert one["identity"] != other["identity"]
    assert one["number"] != other["number"]


def test_worker_has_its_callers_limits_and_none_of_the_servers_files(server, environment, worker) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    fewer = (limits[0] - 1, limits[1])
    one = told(
        environment, *LIKE_RAYS, str(worker), preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, fewer)
    )
    assert (one["way"], one["open_files"]) == ("forked", list(fewer))
    assert [number for number in one["descriptors"] if number > 3] == [], "beside the standard files, the listing's own"


def test_modules_of_the_users_path_are_found_when_pythons_path_is_safe(
    modules, environment, worker, monkeypatch
) -> None:
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    with serving(modules, "for_workers"):
        one = told({**environment, "PYTHONSAFEPATH": "1"}, *LIKE_RAYS, str(worker))
    assert one["way"] == "forked"
    assert "for_workers" in one["modules"]


def test_worker_starts_in_rays_way_when_its_fork_fails(modules, environment, worker) -> None:
    with serving(modules, "breaks") as node:
        assert told(environment, *LIKE_RAYS, str(worker))["way"] == "ordinary"
        assert is_alive(node)


def test_nothing_fails_when_the_server_dies_before_it_knows_its_node(modules) -> None:
    node = ServedNode()
    node.start_server(modules, REPOSITORY, Preload(("for_workers",), ("for_ranks",), threads=1))
    assert node.server_id is not None
    os.kill(node.server_id, signal.SIGKILL)
    psutil.Process(node.server_id).wait(10)
    node.tell(os.getpid())
    node.end_server()


def test_server_is_ended_when_it_is_in_the_middle_of_an_import(modules) -> None:
    (modules / "lasts.py").write_text(
        "import pathlib, time; pathlib.Path(__file__).with_name('begun').touch(); time.sleep(60)"
    )
    node = ServedNode()
    node.start_server(modules, REPOSITORY, Preload((), ("lasts",), threads=1))
    deadline = time.monotonic() + 30
    while not (modules / "begun").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    pid = node.server_id
    assert pid is not None
    node.end_server()
    assert not psutil.pid_exists(pid)


def test_workers_are_forked_when_the_driver_has_no_standard_input(modules, environment, worker) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(modules), str(REPOSITORY), forked_worker.__file__, *LIKE_RAYS, str(worker)],
        env=environment,
        cwd=REPOSITORY,
        preexec_fn=lambda: os.close(0),
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    assert json.loads(done.stdout)["way"] == "forked"


def test_server_forks_none_whose_identities_would_be_another_workers(modules, environment, worker) -> None:
    with serving(modules, "draws") as node:
        assert told(environment, *LIKE_RAYS, str(worker))["way"] == "ordinary"
        assert is_alive(node)


@pytest.mark.parametrize(
    ("variables", "arguments"),
    [
        pytest.param({"KMP_BLOCKTIME": "1"}, LIKE_RAYS, id="another environment"),
        pytest.param({}, like_rays(env_vars={"KMP_BLOCKTIME": "1"}), id="another runtime environment"),
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
    assert told(environment, *LIKE_RAYS, str(worker))["way"] == "forked", "the server serves all the same"


def test_worker_starts_in_rays_way_once_the_server_is_gone(server, environment, worker) -> None:
    server.end_server()
    assert told(environment, *LIKE_RAYS, str(worker))["way"] == "ordinary"


def test_ended_worker_leaves_no_zombie(server, environment, worker) -> None:
    pid = told(environment, *LIKE_RAYS, str(worker))["pid"]
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(pid)


@pytest.fixture
def early(modules: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The process id of a server that was started early, among whose modules is one of its own environment."""
    (modules / "early.py").write_text("import os; os.environ['SET_EARLY'] = os.environ['KNOWN_EARLY']")
    monkeypatch.setenv("KNOWN_EARLY", "yes")
    monkeypatch.setattr(gpus, "_DEVICE_FILES", ())
    monkeypatch.setattr(fork_start, "_EARLY_MODULES", ("early", "is_not_there"))
    monkeypatch.delenv(OF_THE_PHASE)
    with fork_start.started_early():
        yield fork_start._early[0].pid


def test_server_that_was_started_early_serves_in_the_environment_of_now(early, modules, environment, worker) -> None:
    more_than_a_pipe_holds = "y" * 100_000
    environment |= {"KNOWN_EARLY": "yes", "RAY_KNOWN_LATE": more_than_a_pipe_holds}
    os.environ["RAY_KNOWN_LATE"] = more_than_a_pipe_holds
    try:
        with serving(modules, "for_workers") as node:
            one = told(environment, *LIKE_RAYS, str(worker))
            assert node.server_id == early
    finally:
        del os.environ["RAY_KNOWN_LATE"]
    assert one["way"] == "forked"
    assert {"early", "for_workers"} <= set(one["modules"])
    assert {name: one["environment"].get(name) for name in environment} == environment
    assert one["environment"]["SET_EARLY"] == one["environment"]["SET_BY_AN_IMPORT"] == "yes"
    assert (TUNABLES in one["environment"]) is (TUNABLES in environment), "what it was started with is its own"


def test_early_server_ends_when_no_node_takes_it(early) -> None:
    fork_start.end_early()
    assert not psutil.pid_exists(early)


def test_another_server_is_started_when_ranks_have_more_threads_than_the_early_one(early, modules) -> None:
    node = ServedNode()
    node.start_server(modules, REPOSITORY, Preload((), (), threads=2))
    assert node.server_id not in (None, early)
    assert not psutil.pid_exists(early)
    node.end_server()


def test_another_server_is_started_when_the_early_one_has_died(early, modules, environment, worker) -> None:
    os.kill(early, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(early)], timeout=10)
    environment["KNOWN_EARLY"] = "yes"
    with serving(modules, "for_workers") as node:
        assert node.server_id != early
        assert told(environment, *LIKE_RAYS, str(worker))["way"] == "forked"


def test_another_server_is_started_when_imports_would_find_another_variable_by_now(early, modules, monkeypatch) -> None:
    monkeypatch.setenv("KMP_BLOCKTIME", "1")
    with serving(modules) as node:
        assert node.server_id != early


@pytest.mark.parametrize("path", [":/usr", "/usr:.", "."])
def test_nothing_is_started_early_when_pythons_path_names_the_users_folder(path: str, monkeypatch) -> None:
    monkeypatch.setattr(gpus, "_DEVICE_FILES", ())
    monkeypatch.setenv("PYTHONPATH", path)
    with fork_start.started_early():
        assert fork_start._early == []


def test_command_goes_on_when_no_process_can_be_started_early(monkeypatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(gpus, "_DEVICE_FILES", ())
    monkeypatch.setattr(subprocess, "Popen", fail)
    with fork_start.started_early():
        assert fork_start._early == []


@pytest.mark.parametrize(
    ("arguments", "has"),
    [
        (["run", "demo"], True),
        (["run", "demo", "--address", "auto"], False),
        (["run", "demo", "--address=auto"], False),
        (["run", "--help"], False),
        (["plan", "demo"], False),
        ([], False),
    ],
)
def test_server_is_started_early_only_for_a_run_on_an_own_cluster(arguments: list[str], has: bool) -> None:
    assert _has_own_cluster(arguments) is has


def test_nothing_is_forked_where_it_is_forbidden_or_cannot_be(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(gpus, "_DEVICE_FILES", (str(tmp_path / "none"),))
    assert fork_start.may_fork()
    monkeypatch.setenv("ADAPTERTUNE_FORK", "0")
    assert not fork_start.may_fork()
    monkeypatch.delenv("ADAPTERTUNE_FORK")
    monkeypatch.setattr(fork_start, "has_limited_address_space", lambda: True)
    assert not fork_start.may_fork()
    monkeypatch.setattr(fork_start, "has_limited_address_space", lambda: False)
    monkeypatch.setattr(gpus, "_DEVICE_FILES", (str(tmp_path),))
    assert not fork_start.may_fork()
