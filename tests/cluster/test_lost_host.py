"""A host is lost for good while a trial trains on three: the trial goes on with the workers that are left."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmark.launch_plan import plan_launch
from benchmark.result import TrialOutcome
from benchmark.training.trial import trial_steps
from tests.cluster.hosts import GCS_PORT, last_epoch, linked_hosts, wait_until, why_not_here
from tests.cluster.study_command import write_study
from tuning.ledger import Ledger
from tuning.study import load_study

NOT_HERE = why_not_here()
pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(900),
    pytest.mark.skipif(NOT_HERE is not None, reason=NOT_HERE or ""),
]

RESOURCES = {
    "workers_per_trial": 3,
    "min_workers_per_trial": 1,
    "wait_for_nodes_seconds": 5,
    "placement_strategy": "STRICT_SPREAD",
}
# 48 images a step: 16 on each of three workers, then twice 12 on each of two.
METHOD = {"name": "adaptertune", "rank": 4, "init": "small", "epochs": 8, "global_batch_images": 48}
LAST_WORDS_SECONDS = 400.0


@dataclass(frozen=True)
class Story:
    """What was seen of a study whose third host was lost in mid-trial."""

    outcome: TrialOutcome
    exit_status: int
    document: dict[str, Any]
    messages: str
    report: str
    seconds: float


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("study"), "fewer", [METHOD], [0], resources=RESOURCES)


@pytest.fixture(scope="module")
def story(study: Path) -> Iterator[Story]:
    trial_id = load_study(str(study)).trials[0].spec.trial_id
    with linked_hosts(3) as hosts:
        for host in hosts:
            host.start_ray(num_cpus=1)
        first, _, third = hosts
        output = first.folder / "output"
        command = ["-m", "tuning", "run", str(study), "--output", str(output), "--json"]
        process = first.python(*command, "--address", f"{first.address}:{GCS_PORT}")
        wait_until(lambda: last_epoch(output, trial_id) >= 1, process)
        third.end()
        lost_at, epoch = time.monotonic(), last_epoch(output, trial_id)
        wait_until(lambda: last_epoch(output, trial_id) > epoch + 1, process)
        seconds = time.monotonic() - lost_at
        text, messages = process.communicate(timeout=LAST_WORDS_SECONDS)
        assert text, messages
        with contextlib.closing(Ledger(output)) as ledger:
            outcome = ledger.outcome(trial_id)
        assert outcome is not None
        report = (output / "reports" / "fewer" / "index.html").read_text()
        yield Story(outcome, process.returncode, json.loads(text), messages, report, seconds)


def test_trial_goes_on_with_two_workers_when_the_third_host_is_lost(story: Story, note_fault: Any) -> None:
    note_fault("a host lost for good (told to wait 5 s), fewer workers go on", None, story.seconds)
    assert story.exit_status == 0, story.messages
    provenance = story.outcome.result.provenance
    assert provenance is not None
    plan = provenance.launch_plan
    assert (plan["num_workers"], plan["num_workers_asked"]) == (2, 3)
    assert (plan["micro_batch_images"], plan["accumulation_steps"]) == (12, 2)


def test_fewer_workers_are_said_and_shown(story: Story) -> None:
    assert "holds no trial of 3 workers now: it goes on with 2" in " ".join(story.messages.split())
    assert "num_workers_asked 3" in story.report


@pytest.mark.usefixtures("group_of_one")
def test_result_equals_one_hosts_when_workers_became_fewer(story: Story, study: Path) -> None:
    spec = load_study(str(study)).trials[0].spec
    *_, expected = trial_steps(spec, plan_launch(48, accumulation_steps=3))
    assert isinstance(expected, TrialOutcome)
    found = story.outcome.result
    assert [record.epoch for record in found.epochs] == list(range(9))
    # The world-size test's tolerances: fp32 sums in another order, at most 0.2 % of the predictions.
    assert found.first_step_losses == pytest.approx(expected.result.first_step_losses, abs=1e-5)
    assert found.test is not None and expected.result.test is not None
    assert found.test.top1 == pytest.approx(expected.result.test.top1, abs=0.002)
