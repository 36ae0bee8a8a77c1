"""Out of memory for real: an address-space limit in a rank that trains, and Ray's own memory killer."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import psutil
import pytest

from benchmark.launch_plan import LaunchPlan, plan_launch
from benchmark.request import resolve_trial
from benchmark.result import TrialStatus
from benchmark.training.process_group import join, leave
from launch.ranks import TrialProgram
from tests.cluster.aftermath import logits_of, orphaned_shared_memory, results, shared_memory_files, uninterrupted
from tests.cluster.fake_study import PROGRAMS_FOLDER, Listener, own_children, plan_of, run
from tests.trials import make_spec
from tuning.ledger import Ledger
from tuning.scheduled_trial import ScheduledTrial
from tuning.scheduler import run_trials

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]


@pytest.fixture
def programs(monkeypatch):
    """Lets the workers of an own cluster find the tests' programs; at the end nothing of the cluster is left."""
    monkeypatch.setenv("PYTHONPATH", f"{PROGRAMS_FOLDER}:{Path(__file__).parents[2]}")
    before = shared_memory_files()
    yield
    assert orphaned_shared_memory(before) == []
    assert own_children() == []


@pytest.fixture
def group_of_one():
    join(0, 1)
    yield
    leave()


@pytest.mark.usefixtures("group_of_one")
def test_result_stays_when_memory_suffices_only_for_smaller_micro_batches(programs, tmp_path, note_fault):
    # Larger images: 1024 at once need more than 0.7 GB of activations, and the rank may take 0.5 GB more than it has.
    spec = resolve_trial(
        {
            "backbone": {"name": "vit_nano", "image_size": 66},
            "dataset": "digits",
            "method": "full_finetune",
            "training": {"epochs": 2, "warmup_epochs": 1, "global_batch_images": 1024, "learning_rate": 3e-3},
        }
    )
    trial, ledger = ScheduledTrial(spec, plan_launch(1024)), Ledger(tmp_path)
    program, listener = TrialProgram(steps="limited_memory:trial_steps"), Listener()
    statuses = run_trials([trial], "local", ledger, listener, 1, study="demo", program=program)
    found = results(tmp_path, [spec.trial_id])[spec.trial_id]
    assert statuses == {spec.trial_id: TrialStatus.COMPLETED}, found.reason
    assert listener.epochs[spec.trial_id] == [0, 1, 2], "no epoch ran twice"
    plan = LaunchPlan.model_validate(found.provenance.launch_plan)
    assert plan.num_reductions >= 1 and plan.micro_batch_images < 1024
    assert plan.global_batch_images == 1024
    expected = uninterrupted(trial)
    # The same sums in another order: fp32 rounding, within 1e-5 of losses near 1.
    pairs = zip(found.first_step_losses, expected.result.first_step_losses, strict=True)
    assert max(abs(own - other) for own, other in pairs) < 1e-5
    undisturbed = np.load(io.BytesIO(expected.predictions))["logits"]
    assert np.array_equal(logits_of(tmp_path, trial).argmax(1), undisturbed.argmax(1))
    note_fault(f"a rank at its address-space limit (ended with {plan.micro_batch_images} images)", None, None)


def test_trial_completes_when_rays_memory_killer_ends_its_rank(programs, tmp_path, monkeypatch, note_fault):
    memory = psutil.virtual_memory()
    if memory.available < 8 * 2**30:
        pytest.skip("less than 8 GiB are free")
    threshold = 1 - (memory.available - 2 * 2**30) / memory.total
    monkeypatch.setenv("RAY_memory_usage_threshold", f"{threshold:.3f}")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    trial = ScheduledTrial(make_spec(epochs=3, kind="fill", images=2, mebibytes=5000), plan_launch(4))
    ledger, listener = Ledger(tmp_path), Listener()
    statuses = run([trial], ledger, listener, num_cpus=1)
    assert statuses == {trial.spec.trial_id: TrialStatus.COMPLETED}
    assert plan_of(ledger, trial) == "2x2"
    assert listener.epochs[trial.spec.trial_id] == [0, 1, 2, 3]
    note_fault("a rank ended by Ray's memory killer", None, None)
