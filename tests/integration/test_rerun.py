"""Guards that the same command again, with nothing left to do, says so from the ledger, and notices when there is."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration import tracking_samples as samples
from tuning.cli.app import run
from tuning.ledger import Ledger
from tuning.study import load_study

REPOSITORY = Path(__file__).parents[2]
HEAVY = {"mlflow", "torch", "ray", "deepspeed", "timm", "matplotlib", "pyarrow", "sqlalchemy"}
PROGRAM = f"""
import sys
from tuning.cli.app import run
status = run(sys.argv[1:])
print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)
sys.exit(status)
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study's file; beside it, in `output`, its trials have ended, and a first run has tracked and reported them."""
    path = tmp_path_factory.mktemp("rerun") / "through.yaml"
    written = {"name": "through", "backbone": "vit_nano", "dataset": "digits", "method": "head_only", "seed": [0, 1]}
    path.write_text(yaml.safe_dump(written), encoding="utf-8")
    ledger = Ledger(path.parent / "output")
    for trial in load_study(str(path)).trials:
        ledger.record_outcome(samples.completed(trial.spec), "through")
    ledger.close()
    assert run(["run", str(path), "--output", str(path.parent / "output")]) == 0
    return path


def in_a_process(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", PROGRAM, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("command", ["run", "status"])
def test_nothing_heavy_is_imported_when_nothing_is_left_to_do(command: str, study: Path) -> None:
    finished = in_a_process(command, str(study), "--output", "output", "--json", folder=study.parent)
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr.splitlines()[-1] == "[]"


def test_report_and_statuses_are_those_of_before_when_nothing_is_left_to_do(study: Path) -> None:
    report = study.parent / "output" / "reports" / "through"
    written_at = (report / "index.html").stat().st_mtime_ns
    finished = in_a_process("run", str(study), "--output", "output", "--json", folder=study.parent)
    document: dict[str, Any] = json.loads(finished.stdout)
    assert (document["num_run"], set(document["statuses"].values())) == (0, {"COMPLETED"})
    assert document["summary"] == json.loads((report / "summary.json").read_text(encoding="utf-8"))
    assert (report / "index.html").stat().st_mtime_ns == written_at


def test_results_are_delivered_again_when_the_store_has_lost_one(study: Path) -> None:
    output = study.parent / "output"
    delivered = "FROM tags WHERE key = 'adaptertune.delivered'"
    with sqlite3.connect(output / "mlflow.db") as store:
        store.execute(f"DELETE {delivered} AND rowid = (SELECT MAX(rowid) {delivered})")
    assert run(["run", str(study), "--output", str(output)]) == 0
    with sqlite3.connect(output / "mlflow.db") as store:
        assert store.execute(f"SELECT COUNT(*) {delivered}").fetchone() == (2,)
