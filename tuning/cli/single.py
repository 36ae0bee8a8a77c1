"""`adaptertune train`: one trial without Ray."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Annotated

import typer

from benchmark.result import TrialOutcome
from tuning.cli.output import (
    DEFAULT_OUTPUT,
    AsJson,
    OutputDirectory,
    TrackingUri,
    as_percent,
    console,
    print_json,
    tracking_uri_or_default,
)

EXAMPLE = "Example: adaptertune train trial.yaml   (or: torchrun --nproc-per-node 2 -m tuning train trial.yaml)"


def train(
    trial: Annotated[Path, typer.Argument(metavar="TRIAL.yaml", help="The trial: backbone, dataset, method, seed.")],
    output: OutputDirectory = DEFAULT_OUTPUT,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> int:
    """Train one trial without Ray, alone or as ranks of torchrun or deepspeed, and log it to MLflow."""
    from benchmark.standalone import run_trial_file

    directory = output / "train" / trial.stem
    outcome = run_trial_file(trial, directory)
    if os.environ.get("RANK", "0") != "0":
        return 0
    if importlib.util.find_spec("mlflow") is not None:
        _track(outcome, f"train-{trial.stem}", tracking_uri_or_default(tracking_uri, output))
    test = outcome.result.test
    if as_json:
        print_json(
            {"trial_id": outcome.result.trial_id, "directory": str(directory), "test": test and test.model_dump()}
        )
    else:
        tested = f"test top-1 {as_percent(test.top1)}" if test else "not tested"
        console.print(f"{tested}; written to {directory}", soft_wrap=True)
    return 0


def _track(outcome: TrialOutcome, study_name: str, tracking_uri: str) -> None:
    """Store one trial as a study of one trial."""
    from benchmark.spec import TrialSpec
    from benchmark.tracking import PlannedTrial, StudyTracker

    result = outcome.result
    planned = [PlannedTrial(result.trial_id, result.condition_id, result.spec)]
    tracker = StudyTracker(tracking_uri, study_name, {"name": study_name}, planned)
    tracker.start_trial(result.trial_id, TrialSpec.model_validate(result.spec))
    tracker.log_epochs(result.trial_id, result.epochs)
    tracker.finish_trial(outcome)
    tracker.finish_study(result.cost.wall_seconds if result.cost else 0.0)
