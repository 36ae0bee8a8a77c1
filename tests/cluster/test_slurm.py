"""The generated Slurm script on a real Slurm of one node, with `ray symmetric-run` inside."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.result import TrialStatus
from tests.cluster.study_command import REPOSITORY, write_study
from tuning.cli.app import run
from tuning.ledger import Ledger
from tuning.study import load_study

SCRIPT = Path(__file__).parent / "slurm_node.sh"
NAMESPACES = ["unshare", "--pid", "--fork", "--mount-proc", "--net", "--uts"]


def _reason_to_skip() -> str | None:
    missing = [tool for tool in ("slurmctld", "slurmd", "sbatch", "munged", "unshare", "ip") if not shutil.which(tool)]
    if missing:
        return f"not here: {', '.join(missing)} (Debian: slurm-wlm, munge)"
    done = subprocess.run([*NAMESPACES, "true"], capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"no namespaces may be made here: {done.stderr.strip()}"


@pytest.mark.slow
def test_study_completes_when_its_script_is_queued(tmp_path_factory: pytest.TempPathFactory) -> None:
    reason = _reason_to_skip()
    if reason:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("slurm")
    study = write_study(folder, "queued", ["head_only", {"name": "adaptertune", "rank": 2}], [0])
    assert run(["launch-files", str(study), "--kind", "slurm", "--output", str(folder / "files")]) == 0
    log = _queue(folder, folder / "files" / "slurm.sh")
    assert "2 of 2 done" in log
    ledger = Ledger(folder / "adaptertune-output")
    entries = ledger.entries(list(load_study(str(study)).trial_specs))
    ledger.close()
    assert [entry.state for entry in entries.values()] == [TrialStatus.COMPLETED] * 2


def _queue(folder: Path, script: Path) -> str:
    """Run a script in a fresh Slurm; return the job's log."""
    path = f"{_programs(folder)}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [*NAMESPACES, "bash", str(SCRIPT), str(folder), str(script)],
        env={**os.environ, "PATH": path, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    logs = {path.name: path.read_text() for path in folder.glob("*.log")}
    assert done.returncode == 0, "\n".join([done.stdout, done.stderr, *logs.values()])
    (log,) = [text for name, text in logs.items() if name.startswith("adaptertune-")]
    return log


def _programs(folder: Path) -> Path:
    """Return a folder with the programs that an active environment has, run by this interpreter."""
    programs = folder / "bin"
    programs.mkdir()
    for name, module in (("ray", "ray.scripts.scripts"), ("adaptertune", "tuning")):
        program = programs / name
        program.write_text(f'#!/usr/bin/env bash\nexec {sys.executable} -m {module} "$@"\n')
        program.chmod(0o755)
    return programs
