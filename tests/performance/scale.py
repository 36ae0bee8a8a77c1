"""What ten thousand finished trials cost those who come after: `status`, a rerun with nothing to do, `report`.

    python -m tests.performance.scale                        # 10,000 trials: 25 conditions under 400 seeds
    python -m tests.performance.scale --seeds 40             # 1,000 trials
    python -m tests.performance.scale --folder FOLDER        # keep what is made, to measure it again

One trial is trained. Its outcome, under the ids of the others and with scores that differ, goes through the ledger as
theirs would. The store gets those of the first seed through the tracker; the runs of the other seeds are copies of
their rows under other ids, since to write 10,000 runs through MLflow takes hours. Then the commands run as a user
starts them, each in a process of its own. `CPU` is user and system time, which other work on a machine disturbs less.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import yaml

from benchmark.result import TrialOutcome
from benchmark.spec import TrialSpec
from benchmark.standalone import run_trial
from benchmark.tracking import StudyTracker, default_tracking_uri
from tuning.ledger import Ledger
from tuning.study import Study, load_study

REPOSITORY = Path(__file__).parents[2]
STUDY = {
    "name": "ten-thousand",
    "question": "What do ten thousand finished trials cost those who come after?",
    "backbone": "vit_nano",
    "dataset": "digits",
    "method": [
        "head_only",
        {"name": "adaptertune", "rank": [1, 2, 4, 8, 16, 32], "placement": ["all", "first:2", "last:2"]},
        {"name": "adaptertune", "rank": 8, "init": "small"},
        {"name": "lora", "rank": [2, 4, 8, 16, 32]},
    ],
    "training": {"epochs": 10, "warmup_epochs": 1, "global_batch_images": 256},
    "claims": [
        {
            "id": "adapters-help",
            "text": "AdapterTune beats the head alone",
            "a": {"method": "adaptertune", "rank": 8, "placement": "all", "init": "zero"},
            "b": {"method": "head_only"},
        }
    ],
}
COMMANDS = {
    "status": ("status",),
    "run, first: delivers nothing, writes the report": ("run",),
    "run, again: nothing to do": ("run",),
    "report": ("report",),
}
TABLES = ("params", "metrics", "latest_metrics", "tags")
"""MLflow's tables with rows of a run, beside `runs` itself."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=400, help="of each of 25 conditions (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where the ledger and the store are made (default: for this run)")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scale-")))
        file = folder / "study.yaml"
        if not file.exists():
            make(folder, file, options.seeds)
        sys.stdout.write(f"{'command':50}{'seconds':>10}{'CPU':>8}\n")
        for name, command in COMMANDS.items():
            seconds, cpu_seconds = measured([*command, str(file), "--output", str(folder / "output")])
            sys.stdout.write(f"{name:50}{seconds:10.2f}{cpu_seconds:8.2f}\n")
            sys.stdout.flush()
    return 0


def make(folder: Path, file: Path, num_seeds: int) -> None:
    """Make a ledger and a store in which every trial of the study has ended; the study's file comes last."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / "draft.yaml"
    draft.write_text(yaml.safe_dump({**STUDY, "seed": list(range(num_seeds))}), encoding="utf-8")
    study = load_study(str(draft))
    began = time.perf_counter()
    outcome = run_trial(study.trials[0].spec, study.trials[0].plan)
    with contextlib.closing(Ledger(folder / "output")) as ledger:
        for trial in study.trials:
            record(ledger, under(trial.spec, outcome))
    fill_store(study, outcome, folder / "output")
    draft.rename(file)
    sys.stdout.write(f"{len(study.trials)} trials made in {time.perf_counter() - began:.0f} s\n")


def under(spec: TrialSpec, outcome: TrialOutcome) -> TrialOutcome:
    """Return the trained trial's outcome as another trial's, with scores of its own."""
    assert outcome.result.test is not None
    shift = int(spec.trial_id[:4], 16) / 0xFFFF * 0.05
    test = outcome.result.test.model_copy(update={"top1": outcome.result.test.top1 * (1 - shift)})
    changed = {
        "trial_id": spec.trial_id,
        "condition_id": spec.condition_id,
        "spec": spec.model_dump(mode="json"),
        "test": test,
    }
    return dataclasses.replace(outcome, result=outcome.result.model_copy(update=changed))


def record(ledger: Ledger, outcome: TrialOutcome) -> None:
    """Record a trial as the recorder does, but for checkpoints, which are gone when it has ended."""
    trial_id = outcome.result.trial_id
    ledger.begin(trial_id, STUDY["name"])
    for epoch in outcome.result.epochs:
        ledger.record_epoch(trial_id, epoch, None)
    ledger.record_outcome(outcome)


def fill_store(study: Study, outcome: TrialOutcome, output: Path) -> None:
    """Track the trials of the first seed, and copy their runs' rows for the others."""
    uri = default_tracking_uri(output)
    tracker = StudyTracker(uri, study.spec.name, study.spec.model_dump(mode="json"), study.planned, study.spec.question)
    first: dict[str, TrialSpec] = {}
    for trial in study.trials:
        if trial.spec.seed == study.spec.seed[0]:
            first[trial.spec.condition_id] = trial.spec
            tracker.finish_trial(under(trial.spec, outcome))
    with contextlib.closing(sqlite3.connect(output / "mlflow.db")) as store, store:
        query = "SELECT value, run_uuid FROM tags WHERE key = 'trial_id'"
        run_ids = dict(store.execute(query))
        for trial in study.trials:
            original = first[trial.spec.condition_id]
            if trial.spec is not original:
                copy_run(store, run_ids[original.trial_id], trial.spec, under(trial.spec, outcome))


def copy_run(store: sqlite3.Connection, run_id: str, spec: TrialSpec, outcome: TrialOutcome) -> None:
    """Copy the rows of a run to a new one, with another trial's id, seed and scores in them."""
    from benchmark.tracking import schema

    copied = uuid.uuid4().hex
    tags = {"trial_id": spec.trial_id, **schema.trial_tags(outcome.result)}
    replaced: dict[str, dict[str, Any]] = {
        "params": {"seed": str(spec.seed)},
        "metrics": schema.trial_metrics(outcome.result),
        "latest_metrics": schema.trial_metrics(outcome.result),
        "tags": {**tags, schema.DELIVERED: schema.digest(outcome.result)},
    }
    for table in ("runs", *TABLES):
        for row in select(store, table, run_id):
            row["run_uuid"] = copied
            if table != "runs" and row["key"] in replaced[table]:
                row["value"] = replaced[table][row["key"]]
            marks = ",".join("?" * len(row))
            store.execute(f"INSERT INTO {table} ({','.join(row)}) VALUES ({marks})", list(row.values()))


def select(store: sqlite3.Connection, table: str, run_id: str) -> list[dict[str, Any]]:
    """Return a run's rows in one of MLflow's tables."""
    cursor = store.execute(f"SELECT * FROM {table} WHERE run_uuid = ?", (run_id,))
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def measured(arguments: list[str]) -> tuple[float, float]:
    """Run `adaptertune` as a user does; return its seconds by the clock and of CPU."""
    command = [sys.executable, "-m", "tuning", *arguments, "--json"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    before, began = os.times(), time.perf_counter()
    finished = subprocess.run(command, env=environment, cwd=REPOSITORY, stdout=subprocess.PIPE, check=True)
    seconds, after = time.perf_counter() - began, os.times()
    assert json.loads(finished.stdout)
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return seconds, cpu


if __name__ == "__main__":
    sys.exit(main())
