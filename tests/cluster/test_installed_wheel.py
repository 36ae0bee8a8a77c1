"""The wheel, installed into an empty environment, runs the demo's first trials in an empty folder."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.wheel import REPOSITORY, build_wheel, install_wheel

FIRST = ["--set", "seed=[0]", "--set", "method=[head_only, {name: adaptertune, rank: [1, 2]}]", "--set", "claims=[]"]
PACKAGES = ("benchmark", "launch", "reports", "tuning")
PLACES = f"import json; print(json.dumps([__import__(name).__file__ for name in {PACKAGES}]))"


def run(programs: Path, folder: Path, *command: str) -> str:
    """Run a program of the environment in a folder and return what it prints."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "ADAPTERTUNE_OUTPUT")
    }
    environment["PATH"] = f"{programs}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        [str(programs / command[0]), *command[1:]],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_demo_runs_when_the_wheel_is_all_there_is(tmp_path: Path) -> None:
    for name in ("build", "work"):
        (tmp_path / name).mkdir()
    programs, work = install_wheel(build_wheel(tmp_path / "build"), tmp_path / "env"), tmp_path / "work"
    places = json.loads(run(programs, work, "python", "-c", PLACES))
    assert all(Path(place).is_relative_to(tmp_path / "env") for place in places)
    assert not any(Path(place).is_relative_to(REPOSITORY) for place in places)
    outcome = json.loads(run(programs, work, "adaptertune", "run", "demo", *FIRST, "--json"))
    assert list(outcome["statuses"].values()) == ["COMPLETED"] * 3
    assert (work / outcome["report"]).is_file()
    assert sorted(path.name for path in work.iterdir()) == ["adaptertune-output"]
