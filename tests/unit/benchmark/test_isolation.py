"""Guards what each part can be used without: one trial without Ray and MLflow, a plan without torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[3]

# What studies, tracking and reports need and one trial does not: all of it is as good as not installed.
BLOCKER = """
import sys
from importlib.machinery import PathFinder

BLOCKED = {"ray", "mlflow", "typer", "rich", "pyarrow", "pandas", "sklearn", "scipy"}

class Blinkered(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in BLOCKED else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Blinkered
"""

RUN_TRIAL = """
import importlib.util
from benchmark.__main__ import main

assert not [name for name in BLOCKED if importlib.util.find_spec(name)]
status = main(sys.argv[1:])
assert not BLOCKED & {name.partition(".")[0] for name in sys.modules}
sys.exit(status)
"""


def run_python(program: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in a fresh interpreter, outside the repository."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_trial_trains_when_only_its_own_packages_are_installed(tmp_path: Path) -> None:
    trial = tmp_path / "trial.yaml"
    request = {
        "backbone": "vit_nano",
        "dataset": "digits",
        "method": {"name": "adaptertune", "rank": 2},
        "training": {"epochs": 1, "warmup_epochs": 0, "global_batch_images": 256},
    }
    trial.write_text(yaml.safe_dump(request), encoding="utf-8")
    finished = run_python(BLOCKER + RUN_TRIAL, str(trial), "--output-dir", str(tmp_path / "output"), folder=tmp_path)
    assert finished.returncode == 0, finished.stderr
    written = {path.name for path in (tmp_path / "output").iterdir()}
    assert written == {"result.json", "predictions.npz", "checkpoint.safetensors"}
    result = json.loads((tmp_path / "output" / "result.json").read_text())
    assert result["status"] == "COMPLETED" and 0 < result["test"]["top1"] <= 1


@pytest.mark.parametrize(
    ("program", "unwanted"),
    [
        pytest.param(
            "from tuning.study import load_study; assert len(load_study('demo').trials) == 60",
            {"torch", "torchvision", "timm", "deepspeed", "ray", "mlflow", "pyarrow"},
            id="expanding a study",
        ),
        pytest.param("import benchmark.tracking", {"mlflow", "pyarrow", "torch"}, id="tracking"),
        pytest.param("import reports.build", {"torch", "ray", "deepspeed", "timm", "mlflow"}, id="reports"),
        pytest.param("import tuning.cli.app", {"torch", "ray", "mlflow", "deepspeed", "timm"}, id="command line"),
        pytest.param("import benchmark.request", {"torch", "timm", "ray", "mlflow"}, id="reading a trial"),
    ],
)
def test_heavy_packages_stay_unloaded_when_not_needed(program: str, unwanted: set[str], tmp_path: Path) -> None:
    shown = f"import sys; {program}; print(sorted({unwanted!r} & set(sys.modules)))"
    finished = run_python(shown, folder=tmp_path)
    assert (finished.returncode, finished.stdout.strip()) == (0, "[]"), finished.stderr
