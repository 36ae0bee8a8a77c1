"""Whole runs over real Ray, with trials that do not train (`programs/fake_trial.py`)."""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import os

import psutil
import pytest

from benchmark.errors import MissingError, SourceMismatchError
from benchmark.launch_plan import plan_launch
from benchmark.result import TrialStatus
from launch.resources import TrialResources
from launch.staging import Sources
from tests.cluster.fake_study import Listener, alone, in_one_slot, in_pairs, processes_of, result_of, run
from tests.trials import make_spec
from tuning import scheduler
from tuning.ledger import Ledger
from tuning.scheduled_trial import ScheduledTrial
from tuning.tune_run import DriverSide


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """A run of trials of which some fail."""

    trials: list[ScheduledTrial]
    ledger: Ledger
    listener: Listener
    statuses: dict[str, TrialStatus]


KINDS = ["none", "raise", "none", "memory", "diverge", "none"]
STATUSES = ["COMPLETED", "FAILED", "COMPLETED", "OUT_OF_MEMORY", "DIVERGED", "COMPLETED"]


@pytest.fixture(scope="module")
def mixed_run(connected, tmp_path_factory):
    # A micro-batch of one image, which cannot be made smaller when memory runs out.
    trials = [alone(seed, accumulation_steps=4, kind=kind) for seed, kind in enumerate(KINDS)]
    ledger, listener = Ledger(tmp_path_factory.mktemp("output")), Listener()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scheduler, "connect", lambda *_: contextlib.nullcontext(connected))
        return FinishedRun(trials, ledger, listener, run(trials, ledger, listener))


def test_failing_trials_are_stored_and_the_others_complete(mixed_run):
    trials, ledger = mixed_run.trials, mixed_run.ledger
    assert [mixed_run.statuses[trial.spec.trial_id] for trial in trials] == STATUSES
    assert [result_of(ledger, trial).status for trial in trials] == STATUSES
    assert mixed_run.listener.ended == mixed_run.statuses
    assert result_of(ledger, trials[1]).reason == "ValueError: no such block"
    assert [record.epoch for record in result_of(ledger, trials[1]).epochs] == [0]
    assert mixed_run.listener.epochs[trials[0].spec.trial_id] == [0, 1, 2]


def listening_addresses(process: psutil.Process) -> set[str]:
    addresses: set[str] = set()
    with contextlib.suppress(psutil.NoSuchProcess):
        connections = process.net_connections("inet")
        addresses = {one.laddr.ip for one in connections if one.status == psutil.CONN_LISTEN}
    return addresses


@pytest.mark.usefixtures("connected")
def test_own_cluster_listens_on_this_machine_alone():
    found = [listening_addresses(child) for child in psutil.Process().children(recursive=True)]
    addresses = {ipaddress.ip_address(one.removeprefix("::ffff:")) for one in set().union(*found)}
    assert addresses
    assert [str(one) for one in addresses if not one.is_loopback] == []


def test_outcome_holds_files_and_wall_time_when_trial_completes(mixed_run):
    outcome = mixed_run.ledger.outcome(mixed_run.trials[0].spec.trial_id)
    assert (outcome.predictions, outcome.checkpoint) == (b"predictions", b"adapter")
    assert outcome.result.cost.wall_seconds > 0


def test_staged_sources_run_on_the_workers_when_the_users_folder_holds_decoys(mixed_run, connected):
    imported_from = result_of(mixed_run.ledger, mixed_run.trials[0]).reason.split()[0]
    assert imported_from == f"{connected.sources.folder}/benchmark/__init__.py"


def test_only_unfinished_trials_run_when_the_study_is_run_again(mixed_run, shared_cluster):
    listener = Listener()
    run(mixed_run.trials, mixed_run.ledger, listener)
    expected = [mixed_run.trials[index].spec.trial_id for index in (1, 3)]
    assert sorted(listener.started) == sorted(expected)


def test_trials_of_a_pack_are_stored_one_by_one_when_one_of_them_diverges(shared_cluster, tmp_path, all_pack):
    trials = [alone(0, epochs=1), alone(1, kind="diverge"), alone(2, epochs=3), alone(3)]
    ledger, listener = Ledger(tmp_path), Listener()
    statuses = run(trials, ledger, listener, max_trials_per_pack=8)
    assert [statuses[trial.spec.trial_id] for trial in trials] == ["COMPLETED", "DIVERGED", "COMPLETED", "COMPLETED"]
    assert statuses == listener.ended
    assert result_of(ledger, trials[1]).reason == "DivergedError: the loss is nan"
    assert [listener.epochs[trial.spec.trial_id] for trial in trials] == [[0, 1], [0], [0, 1, 2, 3], [0, 1, 2]]
    # Two packs of two, one a slot: each in one process.
    processes = [set(processes_of(ledger, trial)) for trial in (trials[0], trials[2], trials[3])]
    assert all(len(own) == 1 for own in processes) and processes[1] == processes[2] != processes[0]
    assert result_of(ledger, trials[0]).cost.wall_seconds > 0


def test_trials_of_a_pack_go_on_alone_when_one_of_them_fails(shared_cluster, tmp_path, all_pack):
    trials = [alone(seed, kind=kind) for seed, kind in enumerate(["none", "raise", "none"])]
    ledger, listener = Ledger(tmp_path), Listener()
    statuses = run([in_one_slot(trial) for trial in trials], ledger, listener, max_trials_per_pack=8)
    assert [statuses[trial.spec.trial_id] for trial in trials] == ["COMPLETED", "FAILED", "COMPLETED"]
    assert result_of(ledger, trials[1]).reason == "ValueError: no such block"
    assert listener.epochs[trials[0].spec.trial_id] == [0, 1, 2], "what the pack had trained is kept"


@pytest.mark.faults
def test_trials_of_a_pack_go_on_from_their_last_epochs_when_a_rank_is_killed(shared_cluster, tmp_path, all_pack):
    marker = str(tmp_path / "died")
    trials = [in_pairs(0, epochs=3), in_pairs(1, epochs=3, kind="die_once", rank=1, marker=marker)]
    ledger, listener = Ledger(tmp_path), Listener()
    statuses = run(trials, ledger, listener, max_trials_per_pack=8)
    assert set(statuses.values()) == {TrialStatus.COMPLETED}
    for trial in trials:
        assert listener.epochs[trial.spec.trial_id] == [0, 1, 2, 3]
        assert len(set(processes_of(ledger, trial))) == 2


@pytest.mark.faults
def test_other_trials_of_a_pack_complete_when_one_kills_its_process_every_time(shared_cluster, tmp_path, all_pack):
    trials = [in_one_slot(alone(0)), in_one_slot(alone(1, kind="die"))]
    statuses = run(trials, Ledger(tmp_path), max_trials_per_pack=8)
    assert [statuses[trial.spec.trial_id] for trial in trials] == [TrialStatus.COMPLETED, TrialStatus.NODE_LOST]


@pytest.mark.faults
def test_trial_goes_on_from_its_last_epoch_when_a_rank_is_killed(shared_cluster, tmp_path):
    trial = in_pairs(0, epochs=3, kind="die_once", rank=1, marker=str(tmp_path / "died"))
    ledger, listener = Ledger(tmp_path), Listener()
    assert run([trial], ledger, listener) == {trial.spec.trial_id: TrialStatus.COMPLETED}
    assert listener.epochs[trial.spec.trial_id] == [0, 1, 2, 3]
    process_ids = processes_of(ledger, trial)
    # Epoch 0 ran in the group that was lost, the others in the one that followed.
    assert [process_id == process_ids[0] for process_id in process_ids] == [True, False, False, False]


@pytest.mark.faults
def test_trial_is_lost_when_its_rank_dies_every_time(shared_cluster, tmp_path):
    trial, ledger = alone(0, kind="die"), Ledger(tmp_path)
    assert run([trial], ledger) == {trial.spec.trial_id: TrialStatus.NODE_LOST}
    assert "after 2 retries" in result_of(ledger, trial).reason
    assert ledger.resume_checkpoint(trial.spec.trial_id) is not None


def test_trial_is_left_interrupted_when_asked_to_stop(shared_cluster, tmp_path):
    trial, ledger, listener = alone(0, epochs=30, seconds=0.05), Ledger(tmp_path), Listener()
    assert run([trial], ledger, listener, should_stop=lambda: bool(listener.epochs)) == {}
    assert ledger.entries([trial.spec.trial_id])[trial.spec.trial_id].state == "interrupted"
    assert ledger.resume_checkpoint(trial.spec.trial_id) is not None


def test_placement_is_refused_when_it_can_never_fit(shared_cluster, tmp_path):
    trial = ScheduledTrial(make_spec(), plan_launch(4, num_workers=4), TrialResources(1, 0, "STRICT_SPREAD"))
    with pytest.raises(MissingError, match="4 nodes with 1 CPU each; the cluster has 1 node, 2 CPUs"):
        run([trial], Ledger(tmp_path))


def test_run_is_refused_when_the_workers_sources_differ(shared_cluster, tmp_path, monkeypatch):
    other = dataclasses.replace(shared_cluster, sources=Sources("0" * 64, "/elsewhere"))
    monkeypatch.setattr(scheduler, "connect", lambda *_: contextlib.nullcontext(other))
    trial, ledger = alone(0), Ledger(tmp_path)
    with pytest.raises(SourceMismatchError, match=f"/elsewhere.*{shared_cluster.sources.folder}"):
        run([trial], ledger)
    assert ledger.result(trial.spec.trial_id) is None
    assert os.environ.get("TUNE_GLOBAL_CHECKPOINT_S") is None


def test_driver_keeps_no_numbers_of_trials_that_have_ended(shared_cluster, tmp_path, monkeypatch):
    ended, tell = [], DriverSide.on_trial_complete

    def keep(driver_side, iteration, trials, trial, **info):
        tell(driver_side, iteration, trials, trial, **info)
        ended.append(trial)

    monkeypatch.setattr(DriverSide, "on_trial_complete", keep)
    run([alone(0), alone(1)], Ledger(tmp_path))
    # Tune holds every trial until the last has ended: what it keeps of each is what the driver grows by.
    assert [(trial.metric_analysis, trial.metric_n_steps) for trial in ended] == [({}, {})] * 2
    assert ["config" in trial.last_result for trial in ended] == [False] * 2
