"""How a run ends early: by Ctrl-C, as a terminal sends it to the whole process group, by SIGTERM, or by SIGKILL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from launch import cluster
from tests.trials import make_spec
from tuning.ledger import Ledger

pytestmark = pytest.mark.faults

DRIVER = """
import sys
from benchmark.launch_plan import plan_launch
from launch.ranks import TrialProgram
from launch import cluster
from tests.trials import make_spec
from tuning.ledger import Ledger
from tuning.scheduler import ScheduledTrial, run_trials
from tuning.study_lock import StudyLock

class Speaker:
    def on_trial_started(self, trial_id, num_sharing): pass
    def on_quiet(self): pass
    def on_epoch(self, trial_id, record): print(record.epoch, flush=True)
    def on_trial_ended(self, trial_id, status): print(status.value, flush=True)

if __name__ == "__main__":
    trial = ScheduledTrial(make_spec(epochs=200, seconds=0.2), plan_launch(4))
    program = TrialProgram("fake_trial:trial_steps", adopt=False)
    try:
        with StudyLock(sys.argv[1], "demo"):
            run_trials([trial], "local", Ledger(sys.argv[1]), Speaker(), 1, study="demo", program=program)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


@pytest.fixture
def driver(tmp_path):
    """A driver in a process group of its own, in the middle of a trial."""
    repository = Path(__file__).parents[2]
    programs = Path(__file__).parent / "programs"
    environment = {**os.environ, "PYTHONPATH": f"{repository}:{programs}", "TMPDIR": "/tmp"}
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path)],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    assert [process.stdout.readline().strip() for _ in range(3)] == ["0", "1", "2"]
    yield process
    process.kill()
    process.wait()


def gone(processes: list[psutil.Process]) -> bool:
    return psutil.wait_procs(processes, timeout=20)[1] == []


def press_ctrl_c(driver: subprocess.Popen) -> None:
    os.killpg(driver.pid, signal.SIGINT)


@pytest.mark.parametrize("interrupt", [press_ctrl_c, subprocess.Popen.terminate])
def test_run_ends_resumable_and_without_leftovers_when_interrupted(driver, tmp_path, interrupt):
    descendants = psutil.Process(driver.pid).children(recursive=True)
    folders = {part for child in descendants for part in " ".join(child.cmdline()).split("/") if "adaptertune-" in part}
    interrupt(driver)
    output = driver.communicate(timeout=60)[0].split()
    assert output[-1] == "interrupted"
    assert "COMPLETED" not in output and "NODE_LOST" not in output
    assert gone(descendants)
    assert folders and not any(Path("/tmp", folder).exists() for folder in folders)
    trial_id = make_spec(epochs=200, seconds=0.2).trial_id
    entry = Ledger(tmp_path).entries([trial_id])[trial_id]
    assert entry.state == "interrupted" and entry.epoch >= 2
    assert Ledger(tmp_path).resume_point(trial_id).epoch >= 2


def test_nothing_runs_on_when_the_driver_is_killed(driver, tmp_path):
    descendants = psutil.Process(driver.pid).children(recursive=True)
    driver.kill()
    driver.wait()
    # Ray's own agents do not notice, so the next run ends them.
    cluster.remove_leftovers()
    assert gone(descendants)
    trial_id = make_spec(epochs=200, seconds=0.2).trial_id
    assert Ledger(tmp_path).entries([trial_id])[trial_id].state == "interrupted"
