"""A study as a Ray job on a real head with its dashboard."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.ray_head import MISSING_FOR_THE_DASHBOARD, Head, ray_head
from tests.cluster.study_command import ONE_AT_A_TIME, REPOSITORY, write_study

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(MISSING_FOR_THE_DASHBOARD), reason=f"ray[default] is needed; not here: {MISSING_FOR_THE_DASHBOARD}"
    ),
]

METHODS = ["head_only", {"name": "adaptertune", "rank": 2}]


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with ray_head() as running:
        yield running


def start(*arguments: str, folder: Path) -> subprocess.Popen[str]:
    # RAY_ADDRESS would lead Ray's own client elsewhere.
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "RAY_ADDRESS": "http://127.0.0.1:1"}
    return subprocess.Popen(
        [sys.executable, "-m", "tuning", *arguments],
        cwd=folder,
        env={**environment, "RAY_AUTH_MODE": "disabled"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def answer(*arguments: str, folder: Path) -> tuple[int, str, str]:
    process = start(*arguments, folder=folder)
    text, messages = process.communicate(timeout=240)
    return process.returncode, text, messages


def test_study_runs_on_the_head_when_submitted_from_a_folder_full_of_decoys(head: Head, tmp_path: Path) -> None:
    study = write_study(tmp_path, "sent", METHODS, [0], resources=ONE_AT_A_TIME)
    (tmp_path / "benchmark").mkdir()
    (tmp_path / "benchmark" / "__init__.py").write_text("raise SystemExit('the decoy was imported')")
    address = ("--address", head.dashboard)
    # The suite is imported from the repository before the folder only where the folder is not first on the path.
    status, text, messages = answer("submit", "../sent.yaml", *address, "--json", folder=_below(tmp_path))
    document = json.loads(text)
    assert (status, document["status"], document["exit_status"]) == (0, "SUCCEEDED", 0), messages
    assert list(document["run"]["statuses"].values()) == ["COMPLETED", "COMPLETED"]
    output = head.home / "adaptertune-output"
    assert document["run"]["report"] == str(output / "reports" / "sent" / "index.html")
    assert Path(document["run"]["report"]).is_file()
    assert "2 of 2 done" in messages
    status, text, messages = answer("status", str(study), *address, "--json", folder=_below(tmp_path))
    assert (status, json.loads(text)["states"]) == (0, {"COMPLETED": 2}), messages


def test_exit_status_is_the_jobs_when_the_study_fails_on_the_head(head: Head, tmp_path: Path) -> None:
    broken = {"name": "full_finetune", "learning_rate": 1e30, "gradient_clip_norm": None}
    study = write_study(tmp_path, "diverging", [broken], [0], resources=ONE_AT_A_TIME)
    status, text, messages = answer("submit", str(study), "--address", head.dashboard, folder=tmp_path)
    assert status == 1, text + messages
    assert "DIVERGED" in messages and "The job ended as FAILED" in messages


def test_job_goes_on_when_ctrl_c_detaches(head: Head, tmp_path: Path) -> None:
    study = write_study(tmp_path, "detached", METHODS, [7], resources=ONE_AT_A_TIME)
    process = start("submit", str(study), "--address", head.dashboard, folder=tmp_path)
    assert process.stderr is not None
    line = next(line for line in process.stderr if "0 of 2 done" in line)
    os.killpg(process.pid, signal.SIGINT)
    text, messages = process.communicate(timeout=60)
    assert (process.returncode, line.split(":")[0]) == (130, "detached")
    assert "The job goes on. Follow it: ray job logs --follow" in messages
    job_id = text.split()[3]
    assert _state_of(head, job_id) == "SUCCEEDED"


def _below(folder: Path) -> Path:
    below = folder / "below"
    below.mkdir(exist_ok=True)
    return below


def _state_of(head: Head, job_id: str) -> str:
    from ray.job_submission import JobSubmissionClient

    client = JobSubmissionClient(head.dashboard)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not client.get_job_status(job_id).is_terminal():
        time.sleep(1)
    return str(client.get_job_status(job_id))
