"""A node removed in mid-trial, a node frozen, and the head lost: several Ray nodes on this machine, and real trials."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.launch_plan import plan_launch
from benchmark.result import TrialOutcome
from benchmark.training.trial import trial_steps
from launch.cluster import connect
from tests.cluster.aftermath import (
    assert_each_trial_once,
    assert_nothing_left,
    assert_results_undisturbed,
    look,
    results,
    shared_memory_files,
)
from tests.cluster.hosts import last_epoch, wait_until
from tests.cluster.node_cluster import NodeCluster, living_nodes, node_cluster
from tests.cluster.study_command import start_run, write_study
from tuning.scheduled_trial import ScheduledTrial
from tuning.study import load_study

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

LAST_WORDS_SECONDS = 600.0
METHOD = {"name": "adaptertune", "rank": 4, "init": "small", "epochs": 12, "global_batch_images": 48}
# Silent for 6 s is earlier than dead (16 s): the retry must wait for the node, or no node gets anything to do again.
RESOURCES = {
    "workers_per_trial": 2,
    "placement_strategy": "SPREAD",
    "trials_per_pack": 1,
    "max_silence_seconds": 6,
}
FAULTS = {signal.SIGKILL: "a Ray node removed", signal.SIGSTOP: "a Ray node frozen (silence allowed: 6 s)"}


@pytest.fixture(autouse=True)
def _without_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")


@pytest.mark.usefixtures("group_of_one")
@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP], ids=["removed", "frozen"])
def test_trials_complete_on_the_other_nodes_when_one_is_lost(
    fault: signal.Signals, tmp_path: Path, temporary: Path, note_fault: Callable[..., None]
) -> None:
    study = write_study(tmp_path, "nodes", [METHOD], [0, 1], resources=RESOURCES)
    trials, output, shared_memory = load_study(str(study)).trials, tmp_path / "output", shared_memory_files()
    first = trials[0].spec.trial_id
    # Of three nodes with one CPU each the first trial has two; the second waits for room all the while.
    with node_cluster(0, [1, 1, 1]) as nodes:
        process = start_run(study, output, "--address", nodes.address, TMPDIR=str(temporary))
        wait_until(lambda: last_epoch(output, first) >= 2, process)
        struck_at, epoch = strike(nodes, fault), last_epoch(output, first)
        wait_until(lambda: living_nodes(nodes.address) == 3, process)
        noticed = time.monotonic() - struck_at
        wait_until(lambda: last_epoch(output, first) > epoch + 1, process)
        note_fault(FAULTS[fault], noticed, time.monotonic() - struck_at)
        assert_completed(process)
        assert_no_placement_group_is_left(nodes.address)
    assert_each_trial_once(output, "nodes", trials)
    assert_nothing_left(temporary, shared_memory)
    assert_results_like_one_worker(output, trials)


def strike(nodes: NodeCluster, fault: signal.Signals) -> float:
    """Let a node have the fault that holds a rank but not the slot; return when."""
    victim = next(node for node in nodes.others if node.runs("ray::Rank") and not node.runs("ray::ResourceTrainable"))
    victim.send(fault)
    return time.monotonic()


def assert_completed(process: subprocess.Popen[str]) -> None:
    text, messages = process.communicate(timeout=LAST_WORDS_SECONDS)
    assert process.returncode == 0, messages
    assert set(json.loads(text)["statuses"].values()) == {"COMPLETED"}


def assert_no_placement_group_is_left(address: str) -> None:
    import ray

    with connect(address):
        assert {group["state"] for group in ray.util.placement_group_table().values()} <= {"REMOVED"}


def assert_results_like_one_worker(output: Path, trials: list[ScheduledTrial]) -> None:
    """The world-size test's tolerances: fp32 sums in another order, at most 0.2 % of the predictions."""
    found = results(output, [trial.spec.trial_id for trial in trials])
    for trial in trials:
        own, expected = found[trial.spec.trial_id], with_one_worker(trial)
        assert own.provenance is not None and own.provenance.launch_plan["num_workers"] == 2
        assert [record.epoch for record in own.epochs] == list(range(13))
        assert own.first_step_losses == pytest.approx(expected.result.first_step_losses, abs=1e-5)
        assert own.test is not None and expected.result.test is not None
        assert own.test.top1 == pytest.approx(expected.result.test.top1, abs=0.002)


def with_one_worker(trial: ScheduledTrial) -> TrialOutcome:
    *_, outcome = trial_steps(trial.spec, plan_launch(48, accumulation_steps=2))
    assert isinstance(outcome, TrialOutcome)
    return outcome


@pytest.mark.usefixtures("group_of_one")
def test_study_is_resumed_on_a_cluster_of_another_size_when_the_head_is_lost(
    tmp_path: Path, temporary: Path, note_fault: Callable[..., None]
) -> None:
    methods = ["head_only", {"name": "adaptertune", "rank": 2, "epochs": 40}]
    study = write_study(tmp_path, "headless", methods, [0], resources={"trials_per_pack": 1})
    trials, output, shared_memory = load_study(str(study)).trials, tmp_path / "output", shared_memory_files()
    adapter = trials[1].spec.trial_id
    with node_cluster(1) as nodes:
        process = start_run(study, output, "--address", nodes.address, TMPDIR=str(temporary))
        wait_until(lambda: last_epoch(output, adapter) >= 3, process)
        nodes.head.send(signal.SIGKILL)
        struck_at = time.monotonic()
        _, messages = process.communicate(timeout=LAST_WORDS_SECONDS)
        noticed = time.monotonic() - struck_at
    assert process.returncode == 3, messages
    assert "run the same command again" in " ".join(messages.split())
    assert str(look(output, [adapter])[adapter].state) != "COMPLETED"
    with node_cluster(0, [1, 1]) as nodes:
        began, epoch = time.monotonic(), last_epoch(output, adapter)
        process = start_run(study, output, "--address", nodes.address, TMPDIR=str(temporary))
        wait_until(lambda: last_epoch(output, adapter) > epoch, process)
        again = time.monotonic() - began
        assert_completed(process)
    note_fault("the head lost (noticed: the run has ended); then two nodes", noticed, again)
    assert_each_trial_once(output, "headless", trials)
    assert_nothing_left(temporary, shared_memory)
    assert_results_undisturbed(output, trials)
