"""Reads studies back from MLflow: all that a report is made from."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from benchmark.errors import RequestError, nearest
from benchmark.result import EpochRecord, TrialOutcome, TrialResult, TrialStatus
from benchmark.tracking import artifacts, database, schema
from benchmark.tracking.records import PlannedTrial, StoredRun, StudyRecord, TrackedTrial
from benchmark.tracking.runs import find_experiment, one_run_per_trial, refuse_newer, stored_runs
from benchmark.tracking.store import (
    create_store,
    is_sqlite,
    open_client,
    sqlite_path,
    store_errors,
    study_page,
    without_password,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient


_FIELD_OF_METRIC = {metric: field for field, metric in schema.EPOCH_METRICS.items()}


def read_study(tracking_uri: str, study_name: str) -> StudyRecord:
    """Return a study with its plan and every trial whose result is stored whole, in one search over its runs.

    Raises:
        RequestError: The store has no such study.
        MissingError: The store does not answer.
    """
    client = _client_for_reading(tracking_uri, study_name)
    with store_errors(tracking_uri):
        experiment = find_experiment(client, study_name)
        runs = stored_runs(client, experiment.experiment_id) if experiment else []
    study_run = next((run for run in runs if run.tags.get(schema.KIND) == schema.STUDY_KIND), None)
    if experiment is None or study_run is None:
        raise _unknown_study(tracking_uri, study_name, list_studies(tracking_uri))
    refuse_newer(study_run.tags)
    delivered = {key: run for key, run in one_run_per_trial(runs).items() if schema.DELIVERED in run.tags}
    trials = [TrackedTrial(run.run_id, _result_of(client, run)) for run in delivered.values()]
    plan = _json_artifact(client, study_run.run_id, study_run.artifact_uri, schema.PLAN_FILE)
    wall_seconds = study_run.tags.get(schema.WALL_SECONDS)
    return StudyRecord(
        name=study_name,
        spec=_json_artifact(client, study_run.run_id, study_run.artifact_uri, schema.STUDY_FILE),
        planned=[PlannedTrial(**trial) for trial in plan],
        trials=trials,
        run_id=study_run.run_id,
        experiment_id=experiment.experiment_id,
        tracking_uri=without_password(tracking_uri),
        wall_seconds=None if wall_seconds is None else float(wall_seconds),
        test_reads=_test_reads(trials),
    )


def list_studies(tracking_uri: str) -> list[str]:
    """Return the names of the studies in a store, sorted; none when an sqlite store is not there yet."""
    if is_sqlite(tracking_uri) and not sqlite_path(tracking_uri).exists():
        return []
    create_store(tracking_uri)
    client, names, token = open_client(tracking_uri), [], None
    pattern = f"name LIKE '{schema.EXPERIMENT_PREFIX}%'"
    with store_errors(tracking_uri):
        while True:
            page = client.search_experiments(filter_string=pattern, page_token=token)
            names += [experiment.name.removeprefix(schema.EXPERIMENT_PREFIX) for experiment in page]
            token = page.token
            if not token:
                return sorted(names)


def study_pages(tracking_uri: str, server_address: str) -> dict[str, str]:
    """Return the address of each study's table of trials in the pages of a server over the store, by study."""
    client = open_client(tracking_uri)
    experiments = {name: find_experiment(client, name) for name in list_studies(tracking_uri)}
    return {
        name: study_page(server_address, experiment.experiment_id)
        for name, experiment in experiments.items()
        if experiment is not None
    }


def read_curves(tracking_uri: str, run_ids: Sequence[str]) -> dict[str, list[EpochRecord]]:
    """Return the epochs of trials from their metric histories, by run id, also of trials that still run."""
    create_store(tracking_uri)
    points = None
    if is_sqlite(tracking_uri):
        points = database.metric_histories(tracking_uri, run_ids, list(_FIELD_OF_METRIC))
    if points is None:
        client = open_client(tracking_uri)
        with store_errors(tracking_uri):
            points = [point for run_id in run_ids for point in _histories(client, run_id)]
    return _curves(run_ids, points)


def holds_results(tracking_uri: str, run_id: str, num_trials: int) -> bool:
    """Return whether a store still holds a study and its trials' results.

    A database is counted, which needs no MLflow; a server is asked for the study's run alone.

    Args:
        tracking_uri: The store.
        run_id: The study's parent run.
        num_trials: How many results had been stored.
    """
    if is_sqlite(tracking_uri):
        return (database.num_delivered(tracking_uri, run_id) or 0) >= num_trials
    create_store(tracking_uri)
    client = open_client(tracking_uri)
    with contextlib.suppress(RequestError), store_errors(tracking_uri):
        return bool(client.get_run(run_id).info.lifecycle_stage == "active")
    return False


def read_first_losses(tracking_uri: str, run_ids: Sequence[str]) -> dict[str, list[float]]:
    """Return the training losses of the first 100 optimiser steps of trials that have ended, by run id.

    Raises:
        MissingError: The store does not answer, or a file is gone.
    """
    create_store(tracking_uri)
    client = open_client(tracking_uri)
    places = database.artifact_uris(tracking_uri, run_ids) if is_sqlite(tracking_uri) else None
    losses = {}
    with store_errors(tracking_uri):
        for run_id in run_ids:
            place = places[run_id] if places else client.get_run(run_id).info.artifact_uri
            result = _json_artifact(client, run_id, place, schema.RESULT_FILE)
            losses[run_id] = [float(loss) for loss in result.get("first_step_losses", [])]
    return losses


def read_outcome(tracking_uri: str, run_id: str) -> TrialOutcome:
    """Return a trial's whole record and trained tensors, without its predictions.

    Raises:
        RequestError: The store has no such run, or it is no trial's that has ended.
        MissingError: The store does not answer, or a file is gone.
    """
    from mlflow.exceptions import MlflowException

    create_store(tracking_uri)
    client = open_client(tracking_uri)
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        rule = f"{without_password(tracking_uri)} has no run of this id"
        raise RequestError("RUN", run_id, rule, "Name the store with --tracking-uri, or its folder.") from error
    if schema.DELIVERED not in run.data.tags:
        raise RequestError("RUN", run_id, "it is no trial's run whose result is stored")
    result = TrialResult.model_validate(_json_artifact(client, run_id, run.info.artifact_uri, schema.RESULT_FILE))
    checkpoint = None
    if result.status is TrialStatus.COMPLETED:
        checkpoint = artifacts.download(client, run_id, run.info.artifact_uri, schema.ADAPTER_FILE)
    return TrialOutcome(result, checkpoint=checkpoint)


def read_predictions(tracking_uri: str, run_id: str) -> dict[str, NDArray[Any]]:
    """Return a trial's test predictions: `identity` [N], `label` [N], `prediction` [N], `logits` float32 [N, C].

    Raises:
        MissingError: The trial has none.
    """
    if is_sqlite(tracking_uri):
        place = (database.artifact_uris(tracking_uri, [run_id]) or {}).get(run_id)
        if place is not None:
            found = artifacts.read_local(tracking_uri, run_id, place, schema.PREDICTIONS_FILE)
            return artifacts.predictions_from_parquet(found)
    create_store(tracking_uri)
    client = open_client(tracking_uri)
    with store_errors(tracking_uri):
        run = client.get_run(run_id)
    parquet = artifacts.download(client, run_id, run.info.artifact_uri, schema.PREDICTIONS_FILE)
    return artifacts.predictions_from_parquet(parquet)


def _client_for_reading(tracking_uri: str, study_name: str) -> MlflowClient:
    """Return a client, without making a database out of a mistyped address."""
    if is_sqlite(tracking_uri) and not sqlite_path(tracking_uri).exists():
        raise _unknown_study(tracking_uri, study_name, [])
    create_store(tracking_uri)
    return open_client(tracking_uri)


def _unknown_study(tracking_uri: str, study_name: str, studies: Sequence[str]) -> RequestError:
    hint = nearest(study_name, studies) or f"Run it first: `adaptertune run {study_name}`."
    return RequestError("study", study_name, f"{without_password(tracking_uri)} has no results of this study", hint)


def _result_of(client: MlflowClient, run: StoredRun) -> TrialResult:
    """Return a run's result from its tag, or from the artifact when it was too long for a tag."""
    text = run.tags.get(schema.RESULT)
    if text:
        return TrialResult.model_validate_json(text)
    result = TrialResult.model_validate(_json_artifact(client, run.run_id, run.artifact_uri, schema.RESULT_FILE))
    return result.model_copy(update={"epochs": [], "first_step_losses": [], "confusion": None})


def _json_artifact(client: MlflowClient, run_id: str, artifact_uri: str, name: str) -> Any:
    return json.loads(artifacts.download(client, run_id, artifact_uri, name))


def _test_reads(trials: Sequence[TrackedTrial]) -> list[dict[str, Any]]:
    reads = [
        {
            "trial_id": trial.result.trial_id,
            "seed": trial.result.spec["seed"],
            "read_at": trial.result.test_read_at,
            "selected_epoch": trial.result.selected_epoch,
            "run_id": trial.run_id,
            "user": trial.result.provenance.user if trial.result.provenance else None,
        }
        for trial in trials
        if trial.result.test_read_at is not None
    ]
    return sorted(reads, key=lambda read: read["read_at"])


def _histories(client: MlflowClient, run_id: str) -> Iterator[database.Point]:
    for metric in _FIELD_OF_METRIC:
        for point in client.get_metric_history(run_id, metric):
            yield run_id, metric, point.step, point.value


def _curves(run_ids: Sequence[str], points: Iterable[database.Point]) -> dict[str, list[EpochRecord]]:
    by_run: dict[str, dict[int, dict[str, float]]] = {run_id: {} for run_id in run_ids}
    for run_id, metric, step, value in points:
        by_run[run_id].setdefault(step, {})[_FIELD_OF_METRIC[metric]] = value
    return {run_id: [_epoch_record(step, epochs[step]) for step in sorted(epochs)] for run_id, epochs in by_run.items()}


def _epoch_record(epoch: int, values: dict[str, float]) -> EpochRecord:
    return EpochRecord.model_validate({"train_loss": None, "epoch": epoch, **values})
