"""What must hold after every fault: each trial once, results as if undisturbed, and nothing left on the machine."""

from __future__ import annotations

import functools
import io
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
import torch

from benchmark.launch_plan import LaunchPlan
from benchmark.result import TrialOutcome, TrialResult, TrialStatus
from benchmark.spec import TrialSpec
from benchmark.tracking import default_tracking_uri
from benchmark.training.trial import trial_steps
from tuning.ledger import Ledger, LedgerEntry
from tuning.scheduled_trial import ScheduledTrial

SHARED_MEMORY = Path("/dev/shm")


def look(output: Path, trial_ids: Sequence[str]) -> dict[str, LedgerEntry]:
    """Return what the ledger says of trials, while a driver may be writing it."""
    if not (output / "ledger.sqlite").exists():
        return {}
    ledger = Ledger(output)
    try:
        return ledger.entries(list(trial_ids))
    finally:
        ledger.close()


def results(output: Path, trial_ids: Sequence[str]) -> dict[str, TrialResult]:
    """Return the stored results of those trials that have one."""
    ledger = Ledger(output)
    found = {trial_id: ledger.result(trial_id) for trial_id in trial_ids}
    ledger.close()
    return {trial_id: result for trial_id, result in found.items() if result is not None}


def losses(result: TrialResult) -> list[tuple[int, float | None, float]]:
    return [(record.epoch, record.train_loss, record.validation_loss) for record in result.epochs]


def uninterrupted(trial: ScheduledTrial) -> TrialOutcome:
    """Run a trial from its first epoch to its last in this process, which is a group of one."""
    return _uninterrupted(trial.spec.model_dump_json(), trial.plan.model_dump_json())


@functools.cache
def _uninterrupted(spec_json: str, plan_json: str) -> TrialOutcome:
    spec, plan = TrialSpec.model_validate_json(spec_json), LaunchPlan.model_validate_json(plan_json)
    threads = torch.get_num_threads()
    *_, outcome = trial_steps(spec, plan)
    torch.set_num_threads(threads)
    assert isinstance(outcome, TrialOutcome)
    return outcome


def assert_each_trial_once(output: Path, study: str, trials: Sequence[ScheduledTrial]) -> None:
    """Every trial of the study is in the ledger and in tracking, completed, and no other, and none twice."""
    from mlflow import MlflowClient

    planned = sorted(trial.spec.trial_id for trial in trials)
    entries = look(output, planned)
    assert {key: str(entry.state) for key, entry in entries.items()} == dict.fromkeys(planned, "COMPLETED")
    client = MlflowClient(default_tracking_uri(output))
    experiment = client.get_experiment_by_name(f"adaptertune/{study}")
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    nested = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert len(runs) - len(nested) == 1
    assert sorted(run.data.tags["trial_id"] for run in nested) == planned
    assert {run.info.status for run in nested} == {"FINISHED"}


def assert_results_undisturbed(output: Path, trials: Sequence[ScheduledTrial]) -> None:
    """Losses of every epoch, test scores and logits equal, to the bit, those of trials that nothing disturbed.

    The process group of one must stand in this process.
    """
    found = results(output, [trial.spec.trial_id for trial in trials])
    for trial in trials:
        expected, own = uninterrupted(trial), found[trial.spec.trial_id]
        assert own.status is TrialStatus.COMPLETED
        assert losses(own) == losses(expected.result)
        assert (own.test, own.selected_epoch) == (expected.result.test, expected.result.selected_epoch)
        assert logits_of(output, trial).tobytes() == _logits(expected.predictions or b"").tobytes()


def logits_of(output: Path, trial: ScheduledTrial) -> np.ndarray:
    """Return the stored logits of a trial's test images."""
    return _logits((output / "trials" / trial.spec.trial_id / "predictions.npz").read_bytes())


def _logits(content: bytes) -> np.ndarray:
    logits: np.ndarray = np.load(io.BytesIO(content))["logits"]
    return logits


def assert_nothing_left(folder: Path, shared_memory_before: set[str], patience_seconds: float = 20.0) -> None:
    """No process runs from the folder, no temporary folder of the suite lies in it, no shared memory lies about."""
    deadline = time.monotonic() + patience_seconds
    while processes_below(folder) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert processes_below(folder) == []
    assert [str(file) for own in folder.glob("adaptertune-*") for file in (own, *own.rglob("*"))] == []
    assert orphaned_shared_memory(shared_memory_before) == []


@contextmanager
def short_folder() -> Iterator[Path]:
    """Make a temporary folder that goes with the block; Ray's sockets need its path short."""
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def was_started_in(process: psutil.Process, folder: Path) -> bool:
    """Return whether another process was started in a folder or below it."""
    try:
        return process.pid != os.getpid() and Path(process.cwd()).is_relative_to(folder)
    except (psutil.Error, OSError):
        return False


def processes_below(folder: Path) -> list[str]:
    """Return the processes that were started in a folder. Ray's change their titles, but not that."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            found += [process.name()] if was_started_in(process, folder) else []
    return found


def shared_memory_files() -> set[str]:
    return {path.name for path in SHARED_MEMORY.iterdir()}


def orphaned_shared_memory(before: set[str]) -> list[str]:
    """Return shared-memory files that were not there before and that no living process has open."""
    new = shared_memory_files() - before
    return sorted(new - set(_open_shared_memory())) if new else []


def _open_shared_memory() -> Iterator[str]:
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with suppress(OSError):
            for line in maps.read_text().splitlines():
                _, found, path = line.partition(f"{SHARED_MEMORY}/")
                yield from [path] if found else []
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            target = descriptor.readlink()
            yield from [target.name] if target.parent == SHARED_MEMORY else []
