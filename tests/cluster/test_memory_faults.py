"""Out of memory in trials that train: a process at its limit, a GPU's error, one ended by the kernel or by Ray."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmark.launch_plan import LaunchPlan
from benchmark.result import TrialStatus
from launch.ranks import TrialProgram
from tests.cluster.aftermath import (
    assert_each_trial_once,
    assert_nothing_left,
    logits_of,
    orphaned_shared_memory,
    results,
    shared_memory_files,
    uninterrupted,
)
from tests.cluster.fake_study import PROGRAMS_FOLDER, Clock, own_children
from tests.cluster.hosts import last_epoch, wait_until
from tests.cluster.memory_box import memory_box, why_no_box
from tests.cluster.study_command import ONE_AT_A_TIME, REPOSITORY, start_run, write_study
from tuning.ledger import Ledger
from tuning.scheduled_trial import ScheduledTrial
from tuning.scheduler import run_trials
from tuning.study import load_study

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

NO_BOX = why_no_box()
LAST_WORDS_SECONDS = 900.0
# 1,024 images of 66 pixels take 2.4 GB in one step (`adaptertune plan`), and what runs beside them 2 GB.
BACKBONE = {"name": "vit_nano", "image_size": 66}
METHOD = {"name": "full_finetune", "epochs": 2, "global_batch_images": 1024}
BOX_BYTES = 3 * 2**30
ERRORS = {
    "a rank at its address-space limit": "limited_memory:trial_steps",
    "a GPU's error of memory": "gpu_error:trial_steps",
}
KILLERS = {
    "the kernel": {"RAY_memory_monitor_refresh_ms": "0"},
    "Ray": {"RAY_memory_monitor_refresh_ms": "100", "RAY_memory_usage_threshold": "0.8"},
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    return write_study(folder, "memory", [METHOD], [0], backbone=BACKBONE, resources=ONE_AT_A_TIME)


@pytest.mark.usefixtures("group_of_one")
@pytest.mark.parametrize("fault", ERRORS)
def test_result_stays_when_a_rank_runs_out_of_memory(
    fault: str, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, note_fault: Callable[..., None]
) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{PROGRAMS_FOLDER}:{REPOSITORY}")
    shared_memory, (trial,) = shared_memory_files(), load_study(str(study)).trials
    program, clock, ledger = TrialProgram(steps=ERRORS[fault]), Clock(), Ledger(tmp_path)
    statuses = run_trials([trial], "local", ledger, clock, 2, study="memory", program=program)
    ledger.close()
    assert statuses == {trial.spec.trial_id: TrialStatus.COMPLETED}, results(tmp_path, [trial.spec.trial_id])
    assert clock.epochs[trial.spec.trial_id] == [0, 1, 2], "no epoch ran twice"
    plan = assert_same_result_with_smaller_micro_batches(tmp_path, trial)
    note_fault(f"{fault} ({plan.micro_batch_images} of 1,024 images fit)", None, clock.told_at[1] - clock.told_at[0])
    assert orphaned_shared_memory(shared_memory) == []
    assert own_children() == []


@pytest.mark.skipif(NO_BOX is not None, reason=NO_BOX or "")
@pytest.mark.usefixtures("group_of_one")
@pytest.mark.parametrize("killer", KILLERS)
def test_result_stays_when_a_rank_is_ended_for_memory(
    killer: str, study: Path, tmp_path: Path, temporary: Path, note_fault: Callable[..., None]
) -> None:
    shared_memory, trials = shared_memory_files(), load_study(str(study)).trials
    with memory_box(BOX_BYTES) as box:
        options = {"TMPDIR": str(temporary), **KILLERS[killer]}
        process = start_run(study, tmp_path / "output", entrance=box.entrance, **options)
        wait_until(lambda: last_epoch(tmp_path / "output", trials[0].spec.trial_id) >= 0, process)
        began = time.monotonic()
        wait_until(lambda: last_epoch(tmp_path / "output", trials[0].spec.trial_id) >= 1, process)
        again = time.monotonic() - began
        text, messages = process.communicate(timeout=LAST_WORDS_SECONDS)
        kills_of_the_kernel = box.num_kills
    assert process.returncode == 0, messages
    assert set(json.loads(text)["statuses"].values()) == {"COMPLETED"}
    assert (kills_of_the_kernel >= 1) is (killer == "the kernel")
    plan = assert_same_result_with_smaller_micro_batches(tmp_path / "output", trials[0])
    note_fault(f"a rank ended by {killer} for memory ({plan.micro_batch_images} of 1,024 images fit)", None, again)
    assert_each_trial_once(tmp_path / "output", "memory", trials)
    assert_nothing_left(temporary, shared_memory)


def assert_same_result_with_smaller_micro_batches(output: Path, trial: ScheduledTrial) -> LaunchPlan:
    own, expected = results(output, [trial.spec.trial_id])[trial.spec.trial_id], uninterrupted(trial)
    assert own.provenance is not None
    plan = LaunchPlan.model_validate(own.provenance.launch_plan)
    assert plan.num_reductions >= 1 and plan.micro_batch_images < 1024
    assert plan.global_batch_images == 1024
    # The same sums in another order: fp32 rounding.
    assert own.first_step_losses == pytest.approx(expected.result.first_step_losses, abs=1e-5)
    undisturbed = np.load(io.BytesIO(expected.predictions or b""))["logits"]
    assert np.array_equal(logits_of(output, trial).argmax(1), undisturbed.argmax(1))
    return plan
