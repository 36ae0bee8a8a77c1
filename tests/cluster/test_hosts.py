"""A study over two hosts with addresses and file systems of their own, of which one is cut off while a trial trains."""

from __future__ import annotations

import contextlib
import io
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from benchmark.launch_plan import plan_launch
from benchmark.result import TrialOutcome
from benchmark.spec import TrialSpec
from benchmark.training.trial import trial_steps
from tests.cluster.hosts import GCS_PORT, last_epoch, linked_hosts, wait_until, why_not_here
from tuning.ledger import Ledger
from tuning.study import load_study

NOT_HERE = why_not_here()
pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(900),
    pytest.mark.skipif(NOT_HERE is not None, reason=NOT_HERE or ""),
]

SIDE_PIXELS = 128
NUM_TRAIN, NUM_TEST = 400, 60
"""So many that the training images (19 MB) go through the decode cache of each host."""
NUM_EPOCHS = 12
LAST_WORDS_SECONDS = 400.0
CACHE = "~/.cache/adaptertune/decoded"


WATCHER = """
import sys, time, ray
ray.init("auto", log_to_driver=False)
print("watching", flush=True)
while sys.argv[1] in [node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]]:
    time.sleep(0.1)
"""


@dataclass(frozen=True)
class Story:
    """What was seen.

    Attributes:
        output: The driver's folder, on the first host.
        decoded: What each host's decode cache held at the end.
        seen_on_second: What of the first host's folder the second sees.
        noticed_seconds: From the cut to the moment when Ray declared the host dead.
        again_seconds: From the cut to the next epoch of the trial that was cut in two.
        exit_status: Of the command.
        document: What it printed.
    """

    output: Path
    decoded: list[list[str]]
    seen_on_second: list[str]
    noticed_seconds: float
    again_seconds: float
    exit_status: int
    document: dict[str, Any]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random images, a little redder in one class than in the other, at the same path on both hosts."""
    folder, draws = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for split, number in (("train", NUM_TRAIN), ("test", NUM_TEST)):
        for index in range(number):
            pixels = draws.integers(0, 200, (SIDE_PIXELS, SIDE_PIXELS, 3), dtype=np.uint8)
            pixels[:, :, 0] += np.uint8(40 * (index % 2))
            path = folder / split / f"class{index % 2}" / f"{index:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture(scope="module")
def study(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trials, one after the other, each with one worker on either host."""
    path = tmp_path_factory.mktemp("study") / "hosts.yaml"
    content = {
        "name": "hosts",
        "backbone": "vit_nano",
        "dataset": f"image_folder:{images}",
        "method": [{"name": "adaptertune", "rank": 4, "init": "small"}],
        "seed": [0, 1],
        "training": {"epochs": NUM_EPOCHS, "warmup_epochs": 1, "global_batch_images": 50, "learning_rate": 3e-3},
        "resources": {"workers_per_trial": 2, "placement_strategy": "STRICT_SPREAD", "trials_per_pack": 1},
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def story(study: Path) -> Iterator[Story]:
    second_trial = load_study(str(study)).trials[1].spec.trial_id
    with linked_hosts(2) as (first, second):
        first.start_ray(num_cpus=1)
        second.start_ray(num_cpus=1)
        output = first.folder / "output"
        command = ["-m", "tuning", "run", str(study), "--output", str(output), "--json"]
        process = first.python(*command, "--address", f"{first.address}:{GCS_PORT}")
        wait_until(lambda: last_epoch(output, second_trial) >= 0, process)
        watcher = first.python("-c", WATCHER, second.address)
        assert watcher.stdout is not None and watcher.stdout.readline() == "watching\n"

        second.set_link("down")
        cut_at, epoch = time.monotonic(), last_epoch(output, second_trial)
        wait_until(lambda: watcher.poll() is not None, process)
        noticed_seconds = time.monotonic() - cut_at
        second.set_link("up")
        # Ray on a host that was declared dead ends by itself; who watches over it there starts it anew.
        assert second.ray is not None
        second.ray.wait(timeout=60)
        second.start_ray(num_cpus=1)
        wait_until(lambda: last_epoch(output, second_trial) > epoch, process)
        again_seconds = time.monotonic() - cut_at

        text, messages = process.communicate(timeout=LAST_WORDS_SECONDS)
        assert text, messages
        decoded = [host.output_of("sh", "-c", f"ls {CACHE}").split() for host in (first, second)]
        seen = second.output_of("ls", str(second.folder)).split()
        outcome = process.returncode, json.loads(text)
        yield Story(output, decoded, seen, noticed_seconds, again_seconds, *outcome)


def on_one_host(spec: TrialSpec) -> TrialOutcome:
    """Train a trial in this process, with two accumulation steps in the place of two workers."""
    *_, outcome = trial_steps(spec, plan_launch(spec.training.global_batch_images, accumulation_steps=2))
    assert isinstance(outcome, TrialOutcome)
    return outcome


def test_every_trial_completes_when_a_host_is_cut_off_and_comes_back(story: Story, note_fault: Any) -> None:
    note_fault("a host cut off from the others, and back", story.noticed_seconds, story.again_seconds)
    assert story.exit_status == 0, story.document
    assert list(story.document["statuses"].values()) == ["COMPLETED", "COMPLETED"]


@pytest.mark.usefixtures("group_of_one")
@pytest.mark.parametrize("seed", [0, 1])
def test_results_equal_those_of_one_host_when_trials_were_spread_over_two(story: Story, study: Path, seed: int) -> None:
    spec = load_study(str(study)).trials[seed].spec
    expected = on_one_host(spec)
    with contextlib.closing(Ledger(story.output)) as ledger:
        found = ledger.outcome(spec.trial_id)
    assert found is not None and found.result.provenance is not None
    assert found.result.provenance.launch_plan["num_workers"] == 2
    losses = found.result.first_step_losses
    assert len(losses) == 84  # 360 of the 400 images train, in batches of 50: 7 steps in each of 12 epochs
    assert losses == pytest.approx(expected.result.first_step_losses, abs=1e-5)  # fp32 sums in another order
    assert [record.epoch for record in found.result.epochs] == list(range(NUM_EPOCHS + 1))
    assert classes_of(found) == classes_of(expected)


def classes_of(outcome: TrialOutcome) -> dict[str, int]:
    with np.load(io.BytesIO(outcome.predictions or b"")) as archive:
        return dict(zip(archive["identity"].tolist(), archive["logits"].argmax(1).tolist(), strict=True))


def test_each_host_decodes_the_images_once_when_hosts_share_no_file_system(story: Story) -> None:
    assert "output" not in story.seen_on_second
    on_first, on_second = story.decoded
    # One entry and its lock on either host, after two trials and three groups of workers.
    assert len(on_first) == 2 and on_first == on_second
