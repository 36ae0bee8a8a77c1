"""Finds a trained trial by what a user has at hand: a folder, a trial's id, an MLflow run, or a study's name."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.errors import RequestError
from benchmark.result import TrialOutcome
from benchmark.tracking import read_outcome, read_study
from tuning.ledger import LEDGER_FILE, Ledger

if TYPE_CHECKING:
    from benchmark.export import TrainedTrial

_TRIAL_ID, _RUN_ID = re.compile(r"[0-9a-f]{16}"), re.compile(r"[0-9a-f]{32}")


def find_trained(run: str, output: Path, tracking_uri: str) -> TrainedTrial:
    """Return a trained trial.

    Args:
        run: An exported folder, or the folder of a single trial; a trial's id; an MLflow run id; or a study's name,
            which stands for its best trial on validation.
        output: The output folder, for trial ids.
        tracking_uri: The tracking store, for runs and studies.

    Raises:
        RequestError: There is no such trial.
        MissingError: It did not complete, or its files are gone.
    """
    from benchmark.export import TrainedTrial, read_trained

    if Path(run).is_dir():
        return read_trained(Path(run))
    if _RUN_ID.fullmatch(run):
        return TrainedTrial.of(read_outcome(tracking_uri, run))
    if _TRIAL_ID.fullmatch(run):
        return TrainedTrial.of(_outcome_of(run, output))
    return TrainedTrial.of(read_outcome(tracking_uri, best_run(run, tracking_uri)))


def best_run(study_name: str, tracking_uri: str) -> str:
    """Return the run of a study's winner: of the best condition by mean validation top-1, the best seed on validation.

    Raises:
        RequestError: There is no such study, it has no completed trial, or it spans several backbones or data sets.
    """
    from reports.analysis import analyse
    from reports.findings import best_by_validation

    best = best_by_validation(analyse(read_study(tracking_uri, study_name), lambda run_ids: {}))
    if len(best) != 1:
        rule = "a study stands for its best trial only where it has completed trials on one backbone and data set"
        hint = f"Its report names the runs: adaptertune report {study_name}"
        raise RequestError("RUN", study_name, rule, hint)
    condition = next(iter(best.values()))
    scores = condition.scores("validation")
    seed = max(sorted(scores), key=scores.__getitem__)
    return next(one.run_id for one in condition.completed if one.seed == seed)


def _outcome_of(trial_id: str, output: Path) -> TrialOutcome:
    if (output / LEDGER_FILE).is_file():
        with contextlib.closing(Ledger(output)) as ledger:
            outcome = ledger.outcome(trial_id)
        if outcome is not None:
            return outcome
    raise RequestError("RUN", trial_id, f"{output} has no ended trial of this id", "Name the folder with --output.")
