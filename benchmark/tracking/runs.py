"""How the runs of a study are found again: by tags, in one paged search."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmark.errors import MissingError, RequestError
from benchmark.result import TrialStatus
from benchmark.tracking import database
from benchmark.tracking.records import StoredRun
from benchmark.tracking.schema import (
    DELIVERED,
    KIND,
    RESULT,
    STATUS,
    STUDY_KIND,
    TRACKING_VERSION,
    TRIAL_ID,
    TRIAL_KIND,
    VERSION,
    WALL_SECONDS,
    experiment_name,
)
from benchmark.tracking.store import is_sqlite

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

RUNS_PER_PAGE = 1000

READ_TAGS = (KIND, TRIAL_ID, STATUS, DELIVERED, RESULT, WALL_SECONDS, VERSION)
"""The tags that are read back; the others are for people."""


@dataclass
class TrialRun:
    """What the tracker remembers of a trial's run.

    Attributes:
        run_id: The run.
        run_status: MLflow's status.
        delivered: The digest of the result that is stored whole; none while something is missing.
        trial_status: The stored result's status; none before there is one.
        described: Whether the parameters are stored.
        epochs: The epochs already in the metric history; none before the first look.
    """

    run_id: str
    run_status: str
    delivered: str | None = None
    trial_status: TrialStatus | None = None
    described: bool = False
    epochs: set[int] | None = None


def find_experiment(client: MlflowClient, study_name: str) -> Experiment | None:
    """Return a study's experiment.

    Raises:
        RequestError: Somebody deleted it in MLflow, which keeps the name occupied.
    """
    experiment = client.get_experiment_by_name(experiment_name(study_name))
    if experiment is not None and experiment.lifecycle_stage == "deleted":
        raise RequestError(
            "name",
            study_name,
            "this study's experiment has been deleted in MLflow",
            f"Bring it back with `mlflow experiments restore --experiment-id {experiment.experiment_id}`, or name the "
            "study anew.",
        )
    return experiment


def all_runs(client: MlflowClient, experiment_id: str, filter_string: str = "") -> Iterator[Run]:
    """Yield an experiment's runs, oldest first."""
    token = None
    while True:
        page = client.search_runs(
            [experiment_id],
            filter_string,
            max_results=RUNS_PER_PAGE,
            order_by=["attributes.start_time ASC", "attributes.run_id ASC"],
            page_token=token,
        )
        yield from page
        token = page.token
        if not token:
            return


def find_study_run(client: MlflowClient, experiment_id: str) -> Run | None:
    """Return a study's parent run, the oldest should there be several."""
    return next(all_runs(client, experiment_id, f"tags.`{KIND}` = '{STUDY_KIND}'"), None)


def refuse_newer(tags: Mapping[str, str]) -> None:
    """Refuse a study that a newer version of the suite has written: it may mean other things by the same names.

    Args:
        tags: Of the study's run; one without a version is from before there were versions.

    Raises:
        MissingError: It is newer.
    """
    version = int(tags.get(VERSION, 1))
    if version > TRACKING_VERSION:
        raise MissingError(
            f"this study was stored by a newer version of the suite (schema {version}, this one knows up to "
            f"{TRACKING_VERSION}). Install that version, or name another --tracking-uri."
        )


def stored_runs(client: MlflowClient, experiment_id: str) -> list[StoredRun]:
    """Return an experiment's runs, oldest first, with the tags that the suite reads."""
    if is_sqlite(client.tracking_uri):
        runs = database.study_runs(client.tracking_uri, experiment_id, READ_TAGS)
        if runs is not None:
            return runs
    return [_stored(run) for run in all_runs(client, experiment_id)]


def _stored(run: Run) -> StoredRun:
    tags = {name: run.data.tags[name] for name in READ_TAGS if name in run.data.tags}
    info = run.info
    return StoredRun(info.run_id, info.status, info.start_time, info.artifact_uri, bool(run.data.params), tags)


def is_trial(run: StoredRun) -> bool:
    """Return whether a run is a trial's."""
    return run.tags.get(KIND) == TRIAL_KIND and TRIAL_ID in run.tags


def one_run_per_trial(runs: Sequence[StoredRun]) -> dict[str, StoredRun]:
    """Return each trial's run.

    A request that a server carried out but whose answer was lost is repeated by the client, so that a trial may have
    two runs: the delivered one counts, else the older.
    """
    chosen: dict[str, StoredRun] = {}
    for run in sorted(filter(is_trial, runs), key=lambda run: (DELIVERED not in run.tags, run.start_time_ms)):
        chosen.setdefault(run.tags[TRIAL_ID], run)
    return chosen


def remembered(run: StoredRun) -> TrialRun:
    """Return what the tracker remembers of a run that was there before."""
    trial_status = TrialStatus(run.tags[STATUS]) if STATUS in run.tags else None
    return TrialRun(run.run_id, run.status, run.tags.get(DELIVERED), trial_status, run.has_parameters)
