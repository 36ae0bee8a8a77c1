"""The doctor on a real head, on a healthy machine and on a broken one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.ray_head import MISSING_FOR_THE_DASHBOARD, ray_head
from tests.cluster.study_command import REPOSITORY

pytestmark = pytest.mark.slow


def examined(
    folder: Path, *options: str, limit: str = "true", within: tuple[str, ...] = ()
) -> tuple[int, dict[str, dict[str, Any]]]:
    """Return the doctor's exit status and its checks by name; `limit` runs first in its shell, itself run `within`."""
    command = f'{limit}; exec "$0" -m tuning doctor --json --output out {" ".join(options)}'
    done = subprocess.run(
        [*within, "bash", "-c", command, sys.executable],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, {check["name"]: check for check in json.loads(done.stdout)["checks"]}


@pytest.mark.skipif(bool(MISSING_FOR_THE_DASHBOARD), reason=f"ray[default] is needed: {MISSING_FOR_THE_DASHBOARD}")
def test_cluster_is_examined_when_its_address_is_given(tmp_path: Path) -> None:
    with ray_head() as head:
        _, checks = examined(tmp_path, "--address", head.gcs, "--study", "demo")
    assert checks["cluster"]["found"] == "1 nodes, 2 CPUs, 0 GPUs"
    assert checks["versions on all nodes"]["ok"] and checks["clocks"]["ok"]
    assert "MB/s" in checks["all-reduce between nodes"]["found"]
    assert checks["images and weights of demo on all nodes"]["ok"]
    # Ray's own settings: a head that was started without the advised ones.
    assert not checks["health check"]["ok"]


def test_advice_is_given_when_the_machine_is_broken(tmp_path: Path) -> None:
    options = ["--address", "127.0.0.1:1", "--tracking-uri", "http://127.0.0.1:1"]
    status, checks = examined(tmp_path, *options, limit="ulimit -n 512")
    broken = {name for name, check in checks.items() if not check["ok"]}
    assert status == 3
    assert {"open files", "tracking", "cluster"} <= broken
    assert all(checks[name]["advice"] for name in broken)


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("unshare"), reason="a folder system of its own needs root")
def test_disk_is_named_when_the_output_folder_is_full(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    status, checks = examined(tmp_path, limit="mount -t tmpfs -o size=1m none out", within=("unshare", "--mount"))
    assert (status, checks["disk for results"]["ok"]) == (3, False)
    assert checks["disk for results"]["found"].startswith("0.0 GB") and checks["disk for results"]["advice"]
