"""Runs `adaptertune doctor` as a user does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.cluster.study_command import REPOSITORY


def examined(
    folder: Path, *options: str, limit: str = "true", within: tuple[str, ...] = (), **environment: str
) -> tuple[int, dict[str, dict[str, Any]]]:
    """Return the doctor's exit status and its checks by name; `limit` runs first in its shell, itself run `within`."""
    command = f'{limit}; exec "$0" -m tuning doctor --json --output out {" ".join(options)}'
    done = subprocess.run(
        [*within, "bash", "-c", command, sys.executable],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "RAY_AUTH_MODE": "disabled", **environment},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, {check["name"]: check for check in json.loads(done.stdout)["checks"]}
