"""Faults of a trial's own processes, over real Ray, with trials that do not train: stopped, too slow, out of memory."""

from __future__ import annotations

import time

import pytest

from benchmark.launch_plan import plan_launch
from benchmark.result import TrialStatus
from launch.limits import TrialLimits
from tests.cluster.fake_study import Clock, alone, in_pairs, plan_of, processes_of, result_of, run
from tests.trials import make_spec
from tuning.ledger import Ledger
from tuning.scheduled_trial import ScheduledTrial

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("make_trial", [alone, in_pairs])
def test_trial_goes_on_from_its_last_epoch_when_a_rank_is_frozen(make_trial, shared_cluster, tmp_path, note_fault):
    rank = make_trial(0).plan.num_workers - 1
    trial = make_trial(0, epochs=3, kind="freeze_once", rank=rank, marker=str(tmp_path / "frozen"))
    ledger, clock = Ledger(tmp_path), Clock()
    statuses = run([trial], ledger, clock, limits=TrialLimits(max_silence_seconds=4))
    assert statuses == {trial.spec.trial_id: TrialStatus.COMPLETED}
    assert clock.epochs[trial.spec.trial_id] == [0, 1, 2, 3]
    process_ids = processes_of(ledger, trial)
    assert [process_id == process_ids[0] for process_id in process_ids] == [True, False, False, False]
    note_fault(f"rank {rank} of {rank + 1} frozen (silence allowed: 4 s)", 4.0, clock.longest_gap)


def test_trial_goes_on_when_a_rank_is_killed(shared_cluster, tmp_path, note_fault):
    trial = in_pairs(0, epochs=3, kind="die_once", rank=1, marker=str(tmp_path / "died"))
    ledger, clock = Ledger(tmp_path), Clock()
    assert run([trial], ledger, clock) == {trial.spec.trial_id: TrialStatus.COMPLETED}
    assert clock.epochs[trial.spec.trial_id] == [0, 1, 2, 3]
    assert plan_of(ledger, trial) == "2x1", "it did not die of memory"
    note_fault("a rank killed", None, clock.longest_gap)


def test_trial_is_timed_out_and_resumable_when_it_is_past_its_limit(shared_cluster, tmp_path, note_fault):
    # The start of the slot counts, which on a busy machine takes most of a minute.
    slow, quick = alone(0, epochs=500, seconds=0.5), alone(1)
    ledger, began = Ledger(tmp_path), time.monotonic()
    statuses = run([slow, quick], ledger, limits=TrialLimits(max_trial_seconds=90))
    note_fault("a trial past its time limit of 90 s (others run on)", time.monotonic() - began, None)
    assert statuses == {slow.spec.trial_id: TrialStatus.TIMED_OUT, quick.spec.trial_id: TrialStatus.COMPLETED}
    assert "max_trial_minutes" in result_of(ledger, slow).reason
    point = ledger.resume_point(slow.spec.trial_id)
    assert point is not None and 1 <= point.epoch < 500


def test_trial_completes_with_a_smaller_micro_batch_when_memory_runs_out(shared_cluster, tmp_path, note_fault):
    trials = [
        ScheduledTrial(make_spec(seed, epochs=3, kind="memory", images=2), plan_launch(8, num_workers=2))
        for seed in (0, 1)
    ]
    ledger, clock = Ledger(tmp_path), Clock()
    assert set(run(trials, ledger, clock).values()) == {TrialStatus.COMPLETED}
    for trial in trials:
        # 2 workers x 4 images in one go become 2 workers x 2 images twice.
        assert plan_of(ledger, trial) == "2x2"
        assert clock.epochs[trial.spec.trial_id] == [0, 1, 2, 3], "epoch 0 is not run again"
    first, second = (set(processes_of(ledger, trial)) for trial in trials)
    assert (len(first), len(second)) == (2, 1), "the second seed profits from what the first has found out"
    note_fault("a rank out of memory (torch's allocator)", None, clock.longest_gap)


def test_trial_is_out_of_memory_when_one_image_is_too_many(shared_cluster, tmp_path):
    trial, ledger = alone(0, kind="memory"), Ledger(tmp_path)
    assert run([trial], ledger) == {trial.spec.trial_id: TrialStatus.OUT_OF_MEMORY}
    assert "with a micro-batch of 1, made smaller 2 times" in result_of(ledger, trial).reason
