"""Many tiny trials through one driver: what each costs beside its training, and whether that stays flat.

    python -m tests.performance.driver                   # 1,000 trials
    python -m tests.performance.driver --trials 200

The study is a real one: linear heads on digits, one epoch each, every trial alone, on a cluster of this machine. It
runs in this process, so that the driver's memory is this process's own. A line for each tenth of the trials:
`overhead` is the slots' time for each trial without its training and evaluation; `calls` are those of MLflow's client.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

from benchmark.result import EpochRecord, TrialStatus
from benchmark.tracking import default_tracking_uri, study_tracker
from tuning.ledger import Ledger
from tuning.run_study import RunSettings, run_study
from tuning.study import Study, load_study

NUM_PARTS = 10
BYTES_PER_MB = 10**6
STUDY = {
    "name": "many",
    "question": "What does a trial cost beside its training?",
    "backbone": "vit_nano",
    "dataset": "digits",
    "method": "head_only",
    "training": {"epochs": 1, "warmup_epochs": 0, "global_batch_images": 256},
    "resources": {"trials_per_pack": 1},
}


@dataclass(frozen=True)
class Sample:
    """What was read when a trial had ended."""

    at_seconds: float
    memory_bytes: int
    num_calls: int


class CountingClient:
    """MLflow's client, with its calls counted."""

    num_calls = 0

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._client, name)
        return self._counted(value) if callable(value) else value

    @staticmethod
    def _counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            CountingClient.num_calls += 1
            return call(*arguments, **options)

        return counted


@dataclass
class Watch:
    """Told how the trials get on, it reads the driver's state."""

    began_seconds: float | None = None
    samples: list[Sample] = field(default_factory=list)
    ended_ids: list[str] = field(default_factory=list)

    def planned(self, study: Study) -> None:
        """Nothing to do."""

    def started(self, trial_id: str) -> None:
        self.began_seconds = self.began_seconds or time.perf_counter()

    def advanced(self, trial_id: str, record: EpochRecord) -> None:
        """Nothing to do."""

    def ended(self, trial_id: str, status: TrialStatus) -> None:
        self.ended_ids.append(trial_id)
        memory = psutil.Process().memory_info().rss
        self.samples.append(Sample(time.perf_counter(), memory, CountingClient.num_calls))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000, help="(default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="driver-") as folder, counted_calls():
        output, watch = Path(folder) / "output", Watch()
        run_study(study_of(options.trials, Path(folder)), RunSettings(output, default_tracking_uri(output)), watch)
        show(watch, busy_seconds(output, watch.ended_ids))
    return 0


@contextlib.contextmanager
def counted_calls() -> Iterator[None]:
    """Count the calls of MLflow's client from the thread that delivers results."""
    opened = study_tracker.open_client
    study_tracker.open_client = lambda uri: CountingClient(opened(uri))  # type: ignore[assignment, return-value]
    try:
        yield
    finally:
        study_tracker.open_client = opened


def study_of(num_trials: int, folder: Path) -> Study:
    """Return the study of so many trials, which differ in their seeds."""
    path = folder / "many.yaml"
    path.write_text(yaml.safe_dump({**STUDY, "seed": list(range(num_trials))}), encoding="utf-8")
    return load_study(str(path))


def busy_seconds(output: Path, trial_ids: list[str]) -> list[float]:
    """Return the seconds each trial trained and evaluated, in the order in which they ended."""
    with contextlib.closing(Ledger(output)) as ledger:
        costs = [result.cost for trial_id in trial_ids if (result := ledger.result(trial_id))]
    return [cost.train_seconds + cost.evaluation_seconds for cost in costs if cost is not None]


def show(watch: Watch, busy: list[float]) -> None:
    """Print a line for each part of the run."""
    headings = ("trials", "s", "overhead, s a trial", "driver, MB", "calls a trial", "calls a second")
    sys.stdout.write("".join(f"{heading:>21}" for heading in headings) + "\n")
    num_slots = len(os.sched_getaffinity(0))
    bounds = [round(part * len(busy) / NUM_PARTS) for part in range(NUM_PARTS + 1)]
    at_seconds, num_calls = watch.began_seconds or 0.0, 0
    for start, end in itertools.pairwise(bounds):
        last = watch.samples[end - 1]
        seconds, calls = last.at_seconds - at_seconds, last.num_calls - num_calls
        overhead = (seconds * num_slots - sum(busy[start:end])) / (end - start)
        shown = (seconds, overhead, last.memory_bytes / BYTES_PER_MB, calls / (end - start), calls / seconds)
        sys.stdout.write(f"{f'{start + 1}-{end}':>21}" + "".join(f"{value:21.2f}" for value in shown) + "\n")
        at_seconds, num_calls = last.at_seconds, last.num_calls


if __name__ == "__main__":
    sys.exit(main())
