"""Writes a study to MLflow: the study as a parent run, each trial as a nested one, found again by tags."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from benchmark.provenance import user_name
from benchmark.result import EpochRecord, TrialOutcome, TrialResult, TrialStatus
from benchmark.spec import TrialSpec
from benchmark.tracking import artifacts, notes, schema
from benchmark.tracking.records import PlannedTrial
from benchmark.tracking.runs import (
    TrialRun,
    find_experiment,
    find_study_run,
    one_run_per_trial,
    refuse_newer,
    remembered,
    stored_runs,
)
from benchmark.tracking.store import TABLE_VIEW, create_store, local_artifacts, open_client, store_errors

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run

_EPOCHS_PER_REQUEST = 100
"""Seven metrics an epoch, and MLflow takes at most 1000 in one request."""


class StudyTracker:
    """One study's place in the tracking store.

    Every method may be repeated, in this process or a later one: what is stored already is left alone, what is missing
    is added, nothing appears twice. Not safe for several threads at once; see `Delivery`.

    All methods raise `StoreUnavailableError` when the store does not answer, and `RequestError` when it refuses.

    Attributes:
        experiment_id: The study's MLflow experiment.
        run_id: The study's parent run.
    """

    def __init__(
        self,
        tracking_uri: str,
        study_name: str,
        study_spec: Mapping[str, Any],
        planned: Sequence[PlannedTrial],
        question: str = "",
    ) -> None:
        """Find the study in the store, or add it; its spec and plan are stored at once.

        Args:
            tracking_uri: The store; created when it is an sqlite database that is not there yet.
            study_name: The study's name, by which it is found again.
            study_spec: The StudySpec as JSON values.
            planned: Every trial the study asks for; replaces the plan of an earlier run.
            question: What the study asks, shown in MLflow's pages.
        """
        create_store(tracking_uri)
        self._tracking_uri = tracking_uri
        self._study_name = study_name
        self._client = open_client(tracking_uri)
        self._question = question
        self._run_names = schema.run_names(planned)
        self._cached_trial_runs: dict[str, TrialRun] | None = None
        with store_errors(tracking_uri):
            self.experiment_id = self._find_or_create_experiment(notes.study_note(question, planned))
            study_run = self._find_or_create_study_run(notes.study_note(question, planned))
            self.run_id: str = study_run.info.run_id
            self._wall_seconds_before = float(study_run.data.tags.get(schema.WALL_SECONDS, 0.0))
            spec_file = {schema.STUDY_FILE: artifacts.pretty_json(dict(study_spec))}
            artifacts.upload(self._client, self.run_id, spec_file | _plan_file(planned))

    def replan(self, planned: Sequence[PlannedTrial]) -> None:
        """Replace the plan: a sequential search knows more trials the more have ended."""
        self._run_names = schema.run_names(planned)
        note = notes.study_note(self._question, planned)
        with store_errors(self._tracking_uri):
            self._client.set_experiment_tag(self.experiment_id, schema.NOTE, note)
            self._client.set_tag(self.run_id, schema.NOTE, note)
            artifacts.upload(self._client, self.run_id, _plan_file(planned))

    def start_trial(self, trial_id: str, spec: TrialSpec) -> None:
        """Show a trial as running. One that failed before is opened again; one with a final result is left alone."""
        with store_errors(self._tracking_uri):
            run = self._trial_run(trial_id, spec.condition_id, spec.model_dump(mode="json"))
            if run.delivered and run.trial_status and run.trial_status.is_final:
                return
            self._reopen(run)

    def log_epochs(self, trial_id: str, records: Sequence[EpochRecord]) -> None:
        """Add the epochs that the curves do not have yet.

        Raises:
            KeyError: The trial has not been started.
        """
        with store_errors(self._tracking_uri):
            self._add_epochs(self._trial_runs()[trial_id], records)

    def finish_trial(self, outcome: TrialOutcome) -> None:
        """Store a trial that has ended: files, metrics, tags, then the mark that nothing is missing."""
        result = outcome.result
        with store_errors(self._tracking_uri):
            run = self._trial_run(result.trial_id, result.condition_id, result.spec, _started_at_ms(result))
            if run.delivered == schema.digest(result):
                return
            self._reopen(run)
            self._add_epochs(run, result.epochs)
            artifacts.upload(self._client, run.run_id, artifacts.outcome_files(outcome))
            stored = self._client.get_run(run.run_id)
            self._write_result(stored, result)
            self._mark_delivered(run, result, stored.info.start_time + _duration_ms(result))

    def delivered(self) -> set[str]:
        """Return the ids of the trials whose result is stored whole, whatever its status."""
        return set(self.delivered_statuses())

    def delivered_statuses(self) -> dict[str, TrialStatus]:
        """Return the stored status of each trial whose result is stored whole.

        A trial whose ledger says otherwise has been run again since, and is to be delivered again.
        """
        with store_errors(self._tracking_uri):
            runs = self._trial_runs()
        return {key: run.trial_status for key, run in runs.items() if run.delivered and run.trial_status}

    def mark_interrupted(self) -> None:
        """Show every trial that is still shown as running as interrupted."""
        with store_errors(self._tracking_uri):
            for run in self._trial_runs().values():
                if run.run_status == "RUNNING":
                    self._client.set_terminated(run.run_id, "KILLED")
                    run.run_status = "KILLED"

    def finish_study(
        self, wall_seconds: float, metrics: Mapping[str, float] | None = None, interrupted: bool = False
    ) -> None:
        """Close the study for now.

        Args:
            wall_seconds: How long this `run` command has taken; added to what earlier ones took.
            metrics: Figures about the whole study, such as `num_trials_completed`.
            interrupted: Whether the study was stopped by its user.
        """
        total = self._wall_seconds_before + wall_seconds
        with store_errors(self._tracking_uri):
            study_run = self._client.get_run(self.run_id)
            new = self._changed_metrics(study_run, {**(metrics or {}), schema.WALL_SECONDS: total})
            self._client.log_batch(self.run_id, metrics=new, tags=_as_tags({schema.WALL_SECONDS: repr(total)}))
            self._client.set_terminated(self.run_id, "KILLED" if interrupted else "FINISHED")

    def _find_or_create_experiment(self, note: str) -> str:
        experiment = find_experiment(self._client, self._study_name)
        if experiment is None:
            root = local_artifacts(self._tracking_uri)
            location = (root / schema.folder_name(self._study_name)).as_uri() if root else None
            name = schema.experiment_name(self._study_name)
            experiment_id = self._client.create_experiment(name, location, tags=_EXPERIMENT_TAGS)
        else:
            experiment_id = experiment.experiment_id
        self._client.set_experiment_tag(experiment_id, schema.NOTE, note)
        self._client.set_experiment_tag(experiment_id, f"mlflow.sharedViewState.{TABLE_VIEW}", schema.table_view())
        return experiment_id

    def _find_or_create_study_run(self, note: str) -> Run:
        run = find_study_run(self._client, self.experiment_id)
        if run is None:
            version = {schema.VERSION: str(schema.TRACKING_VERSION)}
            tags = {schema.KIND: schema.STUDY_KIND, **version, **_SOURCE_TAGS, **_user_tag()}
            run = self._client.create_run(
                self.experiment_id, tags=tags, run_name=f"Study: {self._study_name}"[: schema.MAX_RUN_NAME_CHARACTERS]
            )
        refuse_newer(run.data.tags)
        self._client.set_tag(run.info.run_id, schema.NOTE, note)
        self._client.update_run(run.info.run_id, status="RUNNING")
        return run

    def _trial_runs(self) -> dict[str, TrialRun]:
        if self._cached_trial_runs is None:
            runs = one_run_per_trial(stored_runs(self._client, self.experiment_id))
            self._cached_trial_runs = {trial_id: remembered(run) for trial_id, run in runs.items()}
        return self._cached_trial_runs

    def _trial_run(
        self, trial_id: str, condition_id: str, spec: Mapping[str, Any], start_time_ms: int | None = None
    ) -> TrialRun:
        """Return a trial's run with its parameters stored, creating what is missing."""
        runs = self._trial_runs()
        parameters = schema.trial_parameters(spec)
        if trial_id not in runs:
            tags = schema.identity_tags(trial_id, condition_id, self.run_id) | _SOURCE_TAGS | _user_tag()
            name = self._run_names.get(trial_id) or schema.run_name(parameters)
            created = self._client.create_run(self.experiment_id, start_time_ms, tags, name)
            runs[trial_id] = TrialRun(created.info.run_id, "RUNNING", epochs=set())
        if not runs[trial_id].described:
            self._describe(runs[trial_id], spec, parameters)
        return runs[trial_id]

    def _describe(self, run: TrialRun, spec: Mapping[str, Any], parameters: Mapping[str, str]) -> None:
        """Store what the trial is. The parameters come last: that they are there means that all is."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, Param

        dataset = spec["dataset"]
        source = schema.as_json({"split_sha256": dataset["split_sha256"]})
        profile = schema.as_json({name: dataset.get(name) for name in ("split", "revision")})
        used = Dataset(dataset["name"][:500], dataset["split_sha256"][:8], "adaptertune", source, profile=profile)
        used_for = "training, validation, test" if spec.get("reads_test", True) else "training, validation"
        context = [InputTag(schema.DATASET_CONTEXT, used_for)]
        self._client.log_inputs(run.run_id, [DatasetInput(used, context)])
        self._client.log_batch(run.run_id, params=[Param(name, value) for name, value in parameters.items()])
        run.described = True

    def _reopen(self, run: TrialRun) -> None:
        """Show a run as running and as not delivered. It may have been deleted from under an earlier parent."""
        if run.delivered:
            self._client.delete_tag(run.run_id, schema.DELIVERED)
            run.delivered = None
        if run.run_status != "RUNNING":
            self._client.set_tag(run.run_id, schema.PARENT_RUN, self.run_id)
            self._client.update_run(run.run_id, status="RUNNING")
            run.run_status = "RUNNING"

    def _add_epochs(self, run: TrialRun, records: Sequence[EpochRecord]) -> None:
        if run.epochs is None:
            history = self._client.get_metric_history(run.run_id, "validation_top1")
            run.epochs = {point.step for point in history}
        new = list({record.epoch: record for record in records if record.epoch not in run.epochs}.values())
        for first in range(0, len(new), _EPOCHS_PER_REQUEST):
            part = new[first : first + _EPOCHS_PER_REQUEST]
            values = [metric for record in part for metric in _metrics(schema.epoch_metrics(record), record.epoch)]
            self._client.log_batch(run.run_id, metrics=values)
            run.epochs.update(record.epoch for record in part)

    def _write_result(self, stored: Run, result: TrialResult) -> None:
        tags = schema.trial_tags(result) | {schema.NOTE: notes.trial_note(result)}
        for outdated in {schema.REASON, schema.RESULT} & set(stored.data.tags) - set(tags):
            self._client.delete_tag(stored.info.run_id, outdated)
        metrics = self._changed_metrics(stored, schema.trial_metrics(result))
        self._client.log_batch(stored.info.run_id, metrics=metrics, tags=_as_tags(tags))

    def _mark_delivered(self, run: TrialRun, result: TrialResult, end_time_ms: int) -> None:
        run.run_status, run.trial_status = schema.run_status(result.status), result.status
        self._client.set_terminated(run.run_id, run.run_status, end_time_ms)
        self._client.set_tag(run.run_id, schema.DELIVERED, schema.digest(result))
        run.delivered = schema.digest(result)

    def _changed_metrics(self, run: Run, values: Mapping[str, float]) -> list[Metric]:
        old = run.data.metrics
        return _metrics({name: value for name, value in values.items() if not schema.same_number(old.get(name), value)})


_EXPERIMENT_TAGS = {schema.KIND: schema.STUDY_KIND, "mlflow.experimentKind": "custom_model_development"}
"""The second makes MLflow's pages open on the table of runs, without asking what kind of experiment this is."""

_SOURCE_TAGS = {schema.SOURCE_NAME: "adaptertune", schema.SOURCE_TYPE: "LOCAL"}


def _user_tag() -> dict[str, str]:
    user = user_name()
    return {} if user is None else {"mlflow.user": user}


def _metrics(values: Mapping[str, float], step: int = 0) -> list[Metric]:
    from mlflow.entities import Metric

    now_ms = int(time.time() * 1000)
    return [Metric(name, float(value), now_ms, step) for name, value in values.items()]


def _plan_file(planned: Sequence[PlannedTrial]) -> dict[str, bytes]:
    return {schema.PLAN_FILE: artifacts.pretty_json([asdict(trial) for trial in planned])}


def _as_tags(values: Mapping[str, str]) -> list[Any]:
    from mlflow.entities import RunTag

    return [RunTag(name, value) for name, value in values.items()]


def _started_at_ms(result: TrialResult) -> int | None:
    return _as_milliseconds(result.provenance.started_at) if result.provenance else None


def _duration_ms(result: TrialResult) -> int:
    """Return how long a trial took. A run's start may be that of its delivery, or of another machine's clock."""
    if result.provenance is None:
        return 0
    return _as_milliseconds(result.provenance.finished_at) - _as_milliseconds(result.provenance.started_at)


def _as_milliseconds(timestamp: str) -> int:
    return int(datetime.fromisoformat(timestamp).timestamp() * 1000)
