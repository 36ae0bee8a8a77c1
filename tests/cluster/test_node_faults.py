"""A node of a cluster removed, frozen, and the head lost, over several Ray nodes on this machine."""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark.launch_plan import plan_launch
from benchmark.result import TrialStatus
from benchmark.training.process_group import join, leave
from launch.cluster import connect
from launch.limits import TrialLimits
from launch.resources import TrialResources
from tests.cluster.aftermath import (
    assert_each_trial_once,
    assert_nothing_left,
    assert_results_undisturbed,
    look,
    orphaned_shared_memory,
    shared_memory_files,
)
from tests.cluster.fake_study import PROGRAM, PROGRAMS_FOLDER, Listener, own_children
from tests.cluster.node_cluster import DEATH_SECONDS, NodeCluster, RayNode, node_cluster
from tests.cluster.study_command import start_run, write_study
from tests.trials import make_spec
from tuning.ledger import Ledger
from tuning.scheduled_trial import ScheduledTrial
from tuning.scheduler import run_trials
from tuning.study import load_study

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]


class Saboteur(Listener):
    """Sends a signal to the node of rank 1 once the trial has some epochs behind it."""

    def __init__(self, nodes: NodeCluster, processes: Path, number: signal.Signals) -> None:
        super().__init__()
        self._nodes, self._processes, self._number = nodes, processes, number
        self.victim: RayNode | None = None
        self.struck_at = 0.0
        self.again_at = 0.0

    def on_epoch(self, trial_id, record):
        super().on_epoch(trial_id, record)
        if record.epoch >= 2 and self.victim is None:
            self.victim = self._nodes.node_of(int((self._processes / "1").read_text()))
            assert self.victim is not self._nodes.head
            self.struck_at = time.monotonic()
            threading.Thread(target=self.victim.send, args=(self._number,)).start()
        elif self.victim is not None and not self.again_at and time.monotonic() - self.struck_at > 3:
            self.again_at = time.monotonic()


@pytest.fixture
def environment(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("PYTHONPATH", f"{PROGRAMS_FOLDER}:{Path(__file__).parents[2]}")
    before = shared_memory_files()
    yield
    assert orphaned_shared_memory(before) == []
    assert own_children() == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["removed", "frozen"])
def test_trials_complete_on_the_other_nodes_when_one_is_lost(environment, tmp_path, note_fault, number):
    # Three nodes of one CPU: the trial has two of them, and the third takes over.
    apart = TrialResources(placement_strategy="SPREAD")
    options = {"epochs": 12, "seconds": 1.0, "processes": str(tmp_path)}
    trials = [ScheduledTrial(make_spec(0, **options), plan_launch(4, num_workers=2), apart)]
    trials += [ScheduledTrial(make_spec(seed), plan_launch(4)) for seed in (1, 2)]
    ledger = Ledger(tmp_path)
    with node_cluster(0, [1, 1, 1]) as nodes:
        saboteur = Saboteur(nodes, tmp_path, number)
        limits = TrialLimits(max_silence_seconds=8)
        statuses = run_trials(trials, nodes.address, ledger, saboteur, study="demo", program=PROGRAM, limits=limits)
        assert saboteur.victim is not None
        assert_no_placement_group_is_left(nodes.address)
    assert statuses == {trial.spec.trial_id: TrialStatus.COMPLETED for trial in trials}
    assert [record.epoch for record in ledger.epochs(trials[0].spec.trial_id)] == list(range(13))
    what = {signal.SIGKILL: "a node removed", signal.SIGSTOP: f"a node frozen (dead after {DEATH_SECONDS} s)"}[number]
    note_fault(what, None, saboteur.again_at - saboteur.struck_at)


def assert_no_placement_group_is_left(address: str) -> None:
    import ray

    with connect(address):
        states = {group["state"] for group in ray.util.placement_group_table().values()}
    assert states <= {"REMOVED"}


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A temporary folder of this test's own."""
    folder = Path(tempfile.mkdtemp(prefix="h-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def group_of_one():
    join(0, 1)
    yield
    leave()


@pytest.mark.usefixtures("group_of_one")
def test_study_is_resumed_on_another_cluster_when_the_head_is_lost(environment, tmp_path, temporary, note_fault):
    methods = ["head_only", {"name": "adaptertune", "rank": 2, "epochs": 20}]
    study = write_study(tmp_path, "headless", methods, [0], resources={"trials_per_pack": 1})
    trials, output = load_study(str(study)).trials, tmp_path / "output"
    trial_ids, shared_memory = [trial.spec.trial_id for trial in trials], shared_memory_files()
    settings = {"TMPDIR": str(temporary)}
    with node_cluster(1) as nodes:
        process = start_run(study, output, "--address", nodes.address, **settings)
        while max((entry.epoch or 0 for entry in look(output, trial_ids).values()), default=0) < 4:
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        struck_at = time.monotonic()
        nodes.head.send(signal.SIGKILL)
        _, messages = process.communicate(timeout=300)
    noticed = time.monotonic() - struck_at
    assert process.returncode == 3, messages
    assert "run the same command again" in " ".join(messages.split())
    before = {key: entry.epoch for key, entry in look(output, trial_ids).items()}
    with node_cluster(0, [1, 1]) as nodes:
        began = time.monotonic()
        process = start_run(study, output, "--address", nodes.address, **settings)
        while all(entry.epoch == before[key] for key, entry in look(output, trial_ids).items()):
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        again = time.monotonic() - began
        text, messages = process.communicate(timeout=600)
    assert process.returncode == 0, messages
    assert set(json.loads(text)["statuses"].values()) == {"COMPLETED"}
    assert_each_trial_once(output, "headless", trials)
    assert_nothing_left(temporary, shared_memory)
    assert_results_undisturbed(output, trials)
    note_fault("the head lost; the study resumed on a cluster of two other nodes", noticed, again)
