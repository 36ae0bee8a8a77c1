"""launch/compose.yaml's pieces started by hand: a study against MLflow with users, PostgreSQL and an S3 store."""

from __future__ import annotations

import base64
import contextlib
import importlib.metadata
import importlib.util
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.doctor import examined
from tests.cluster.study_command import ONE_AT_A_TIME, REPOSITORY, start_run, write_study
from tests.ports import free_port
from tests.postgres_server import PROGRAMS, postgres

VALUES = {name: f"{name.lower().replace('_', '')}0123456789" for name in ("POSTGRES_PASSWORD", "S3_ACCESS_KEY")}
VALUES |= {name: f"{name.lower().replace('_', '')}0123456789" for name in ("S3_SECRET_KEY", "MLFLOW_SECRET_KEY")}
VALUES["MLFLOW_ADMIN_PASSWORD"] = "correcthorsebattery"

MISSING = [name for name in ("psycopg2", "boto3", "moto", "flask_wtf") if importlib.util.find_spec(name) is None]
MISSING += [] if PROGRAMS else ["PostgreSQL"]

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(MISSING), reason=f"not here: {', '.join(MISSING)}")]


@contextlib.contextmanager
def running(command: list[str], log: Path, **settings: Any) -> Iterator[None]:
    """Keep a program running, and end it and the processes it started."""
    import psutil

    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True, **settings)
    try:
        yield
    finally:
        family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
        for one in family:
            with contextlib.suppress(psutil.Error):
                one.kill()


def await_listener(port: int, log: Path, path: str | None = None) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5).close() if path else None
            return
        time.sleep(0.5)
    raise RuntimeError(log.read_text())


def filled(text: str, ports: Mapping[str, int]) -> str:
    """Return a part of the compose file with its variables' values, and this machine's ports for its services."""
    places = {
        "@postgres/": f"@127.0.0.1:{ports['postgres']}/",
        "store:9000": f"127.0.0.1:{ports['store']}",
        "0.0.0.0": "127.0.0.1",
        "5000": str(ports["mlflow"]),
        "--workers 4": "--workers 1",
    }
    text = re.sub("|".join(map(re.escape, places)), lambda match: places[match[0]], text)
    return re.sub(r"\$\{(\w+)[^}]*\}", lambda match: VALUES[match[1]], text)


@contextlib.contextmanager
def stack(folder: Path) -> Iterator[dict[str, int]]:
    """Run what launch/compose.yaml describes, from its own command, settings and variables."""
    compose = yaml.safe_load((REPOSITORY / "launch" / "compose.yaml").read_text())
    service = compose["services"]["mlflow"]
    programs = folder / "bin"
    programs.mkdir()
    for name, words in (("python", ""), ("mlflow", " -m mlflow")):
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable}{words} "$@"\n')
        (programs / name).chmod(0o755)
    with postgres(VALUES["POSTGRES_PASSWORD"]) as server:
        ports = {"postgres": server.port, "store": free_port(), "mlflow": free_port()}
        (folder / "basic_auth.ini").write_text(filled(compose["configs"]["basic_auth"]["content"], ports))
        environment = {name: filled(str(value), ports) for name, value in service["environment"].items()}
        environment |= {"MLFLOW_AUTH_CONFIG_PATH": str(folder / "basic_auth.ini")}
        environment |= {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder)}
        store = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(ports["store"])]
        command = [filled(word, ports) for word in service["command"]]
        with running(store, folder / "store.log"):
            await_listener(ports["store"], folder / "store.log")
            with running(command, folder / "mlflow.log", env=environment, cwd=folder):
                await_listener(ports["mlflow"], folder / "mlflow.log", "/health")
                yield ports


def open_store(port: int) -> None:
    """Let the server open its store: the first request of a user takes longer than the suite waits for an answer."""
    login = base64.b64encode(f"admin:{VALUES['MLFLOW_ADMIN_PASSWORD']}".encode()).decode()
    address = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search?max_results=1"
    request = urllib.request.Request(address, headers={"Authorization": f"Basic {login}"})
    urllib.request.urlopen(request, timeout=120).close()


def tracking_check(folder: Path, *options: str, **environment: str) -> dict[str, Any]:
    """Return what the doctor says of the server."""
    _, checks = examined(folder, *options, **environment)
    return checks["tracking"]


@pytest.mark.timeout(600)
def test_study_is_tracked_and_reported_when_the_store_asks_for_a_password(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    import boto3

    folder = tmp_path_factory.mktemp("team")
    study = write_study(folder, "tracked", ["head_only"], [0], resources=ONE_AT_A_TIME)
    with stack(folder) as ports:
        uri = ("--tracking-uri", f"http://127.0.0.1:{ports['mlflow']}")
        login = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": "wrong" * 4}
        refused = start_run(study, folder / "refused", *uri, **login)
        _, messages = refused.communicate(timeout=100)
        assert refused.returncode == 3, messages
        assert "refuses this user" in " ".join(messages.split())
        assert "refuses this user" in tracking_check(folder, *uri, **login)["found"]
        login["MLFLOW_TRACKING_PASSWORD"] = VALUES["MLFLOW_ADMIN_PASSWORD"]
        open_store(ports["mlflow"])
        check = tracking_check(folder, *uri, **login)
        assert check["ok"] and check["found"].endswith(f"MLflow {importlib.metadata.version('mlflow')}"), check
        process = start_run(study, folder / "output", *uri, **login)
        text, messages = process.communicate(timeout=200)
        assert process.returncode == 0, text + messages
        document = yaml.safe_load(text)
        assert (document["not_tracked"], document["summary"]["num_trials"]) == ([], 1)
        login_to_store = {
            "aws_access_key_id": VALUES["S3_ACCESS_KEY"],
            "aws_secret_access_key": VALUES["S3_SECRET_KEY"],
        }
        address = f"http://127.0.0.1:{ports['store']}"
        client = boto3.client("s3", endpoint_url=address, region_name="us-east-1", **login_to_store)
        kept = [entry["Key"] for entry in client.list_objects_v2(Bucket="mlflow")["Contents"]]
        assert any(key.endswith("adapter.safetensors") for key in kept), kept
