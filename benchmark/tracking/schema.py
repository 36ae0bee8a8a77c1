"""The names under which results stand in MLflow: experiment, run names, parameters, metrics and tags."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from benchmark.errors import RequestError
from benchmark.result import Cost, EpochRecord, Provenance, TrialResult, TrialStatus
from benchmark.tracking.records import PlannedTrial

EXPERIMENT_PREFIX = "adaptertune/"

KIND, STUDY_KIND, TRIAL_KIND = "adaptertune.kind", "study", "trial"
VERSION, TRACKING_VERSION = "adaptertune.schema", 1
"""On a study's run: the version of the names below by which it was written; none is 1. Raised when an older suite would
misread what a newer one writes; what is older stays readable."""
DELIVERED = "adaptertune.delivered"
"""On a run whose result is stored whole: the digest of that result. Written last."""
RESULT = "adaptertune.result"
"""The result as JSON without its curves and confusion matrix; absent when longer than a tag may be."""
TRIAL_ID, CONDITION_ID, STATUS, REASON = "trial_id", "condition_id", "status", "reason"
WALL_SECONDS = "wall_seconds"
DATASET_CONTEXT = "mlflow.data.context"
"""On a run's data set: what MLflow's pages say it is used for."""
PARENT_RUN, NOTE, SOURCE_NAME, SOURCE_TYPE = (
    "mlflow.parentRunId",
    "mlflow.note.content",
    "mlflow.source.name",
    "mlflow.source.type",
)

STUDY_FILE, PLAN_FILE, SPEC_FILE, RESULT_FILE = "study.json", "plan.json", "spec.json", "result.json"
PREDICTIONS_FILE, ADAPTER_FILE, CONFUSION_FILE = "predictions.parquet", "adapter.safetensors", "confusion.csv"

MAX_TAG_CHARACTERS = 8000
"""MLflow 3 cuts longer values in silence."""
MAX_PARAMETER_CHARACTERS = 6000
MAX_REASON_CHARACTERS = 500
MAX_RUN_NAME_CHARACTERS = 250
MAX_EXPERIMENT_NAME_CHARACTERS = 500

EPOCH_METRICS = {
    "train_loss": "train_loss",
    "validation_loss": "validation_loss",
    "validation_top1": "validation_top1",
    "feature_drift": "feature_drift",
    "learning_rate": "learning_rate",
    "train_seconds": "usage/epoch_train_seconds",
    "evaluation_seconds": "usage/epoch_evaluation_seconds",
}
"""Field of `EpochRecord` to metric, one value an epoch. MLflow's chart view shows what precedes the slash as a
section, so that the costs (`usage/`, after the curves) do not hide them."""

TABLE_COLUMNS = (
    "metrics.`test_top1`",
    "metrics.`validation_top1_selected`",
    "metrics.`usage/num_trainable_parameters`",
    "metrics.`usage/wall_seconds`",
    "params.`method`",
    "params.`rank`",
    "params.`placement`",
    "params.`init`",
    "params.`dataset`",
    "params.`seed`",
    "tags.`status`",
    "tags.`reason`",
)

_NAMED_BY_VALUE = ("backbone", "dataset", "protocol", "precision", "placement", "init", "site")
"""Parameters whose value says in a run's name what it is."""

_NOT_IN_TAG = ("epochs", "first_step_losses", "confusion")


def experiment_name(study_name: str) -> str:
    """Return the name of a study's experiment.

    Raises:
        RequestError: The name is empty or longer than MLflow keeps.
    """
    name = f"{EXPERIMENT_PREFIX}{study_name}"
    if not study_name.strip() or len(name) > MAX_EXPERIMENT_NAME_CHARACTERS:
        limit = MAX_EXPERIMENT_NAME_CHARACTERS - len(EXPERIMENT_PREFIX)
        raise RequestError("name", study_name, f"a study's name has 1 to {limit} characters")
    return name


def folder_name(study_name: str) -> str:
    """Return a folder name for a study's artifacts: readable, safe, and different for different studies."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", study_name).strip("-.")[:40]
    return f"{readable}-{hashlib.sha256(study_name.encode()).hexdigest()[:8]}"


def trial_parameters(spec: Mapping[str, Any]) -> dict[str, str]:
    """Return a TrialSpec as flat MLflow parameters, those that people compare first."""
    fields = {
        "backbone": spec["backbone"]["name"],
        "backbone_weights": spec["backbone"]["weights"],
        "image_size_pixels": spec["backbone"]["image_size_pixels"],
        "dataset": spec["dataset"]["name"],
        "method": spec["method"]["name"],
        "seed": spec["seed"],
        "protocol": spec["protocol"]["name"],
        **{name: spec["protocol"][name] for name in ("normalisation", "augmentation", "selection")},
        **spec["training"],
    }
    if spec.get("soup"):
        fields["soup"] = spec["soup"]["recipe"]
    for name, value in spec["method"]["options"].items():
        fields[f"method.{name}" if name in fields else name] = value
    return {name: _as_text(value)[:MAX_PARAMETER_CHARACTERS] for name, value in fields.items()}


def run_names(planned: Sequence[PlannedTrial]) -> dict[str, str]:
    """Return a readable name for each planned trial, such as `adaptertune r16 · seed 0 · digits`.

    Whatever else differs between the trials of one method is named too, so that two conditions never look alike.
    """
    parameters = {trial.trial_id: trial_parameters(trial.spec) for trial in planned}
    by_method: dict[str, list[dict[str, str]]] = defaultdict(list)
    for fields in parameters.values():
        by_method[fields["method"]].append(fields)
    differing = {method: _differing_names(rows) for method, rows in by_method.items()}
    return {trial_id: run_name(fields, differing[fields["method"]]) for trial_id, fields in parameters.items()}


def run_name(parameters: Mapping[str, str], differing: Sequence[str] = ()) -> str:
    """Return one trial's readable name; `differing` names the parameters to show beside method, rank and seed.

    The seed comes second, since MLflow's table cuts a name after some thirty characters.
    """
    method = f"{parameters['method']} r{parameters['rank']}" if "rank" in parameters else parameters["method"]
    shown = [name for name in differing if name in parameters and name not in ("method", "rank", "seed")]
    parts = [method, f"seed {parameters['seed']}", *(_labelled(name, parameters[name]) for name in shown)]
    return " · ".join(parts)[:MAX_RUN_NAME_CHARACTERS]


def trial_tags(result: TrialResult) -> dict[str, str]:
    """Return the tags of a trial that has ended; what is unknown has none."""
    tags = {STATUS: result.status.value, REASON: shortened(result.reason or "")}
    tags |= _provenance_tags(result.provenance) if result.provenance else {}
    compact = as_json(result.model_dump(exclude=set(_NOT_IN_TAG)))
    tags[RESULT] = compact if len(compact) <= MAX_TAG_CHARACTERS else ""
    return {name: value for name, value in tags.items() if value}


def identity_tags(trial_id: str, condition_id: str, parent_run_id: str) -> dict[str, str]:
    """Return the tags by which a trial's run is found again."""
    return {KIND: TRIAL_KIND, TRIAL_ID: trial_id, CONDITION_ID: condition_id, PARENT_RUN: parent_run_id}


def trial_metrics(result: TrialResult) -> dict[str, float]:
    """Return the metrics that a trial has once; what was not reached is absent, never zero."""
    values: dict[str, float | None] = {"selected_epoch": result.selected_epoch}
    if result.test:
        values |= {"test_top1": result.test.top1, "test_mean_per_class": result.test.mean_per_class}
        values["test_loss"] = result.test.loss
    if result.validation:
        values["validation_top1_selected"] = result.validation.top1
    if result.cost:
        values |= {f"usage/{name}": getattr(result.cost, name) for name in Cost.model_fields}
    return {name: float(value) for name, value in values.items() if value is not None}


def epoch_metrics(record: EpochRecord) -> dict[str, float]:
    """Return the metrics of one epoch."""
    values = {metric: getattr(record, field) for field, metric in EPOCH_METRICS.items()}
    return {metric: value for metric, value in values.items() if value is not None}


def table_view() -> str:
    """Return how MLflow's pages show a study: telling columns, best test accuracy first, curves above the costs.

    MLflow keeps such a view as an experiment's tag and takes it up when the address names it (`store.study_page`).
    """
    return as_json(
        {
            "orderByKey": TABLE_COLUMNS[0],
            "orderByAsc": False,
            "searchFilter": "",
            "startTime": "ALL",
            "lifecycleFilter": "Active",
            "datasetsFilter": [],
            "modelVersionFilter": "All Runs",
            "selectedColumns": TABLE_COLUMNS,
            "isAccordionReordered": True,
            "compareRunCharts": [],
            "compareRunSections": [
                {"uuid": "curves", "name": "Model metrics", "display": True, "isReordered": False},
                {"uuid": "usage", "name": "usage", "display": False, "isReordered": False},
            ],
        }
    )


def run_status(status: TrialStatus) -> str:
    """Return MLflow's run status for a trial's."""
    return "FINISHED" if status in (TrialStatus.COMPLETED, TrialStatus.PRUNED) else "FAILED"


def same_number(first: float | None, second: float) -> bool:
    """Return whether a stored metric is the one to write; NaN equals NaN."""
    return first is not None and (first == second or (math.isnan(first) and math.isnan(second)))


def as_json(value: Any) -> str:
    """Return compact JSON in which NaN and infinity, the losses of a diverged trial, are kept."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def digest(result: TrialResult) -> str:
    """Return what tells one result of a trial from another."""
    return hashlib.sha256(as_json(result.model_dump()).encode()).hexdigest()[:16]


def shortened(text: str) -> str:
    """Return a text that fits into a table's cell; the whole stands in `result.json`."""
    if len(text) <= MAX_REASON_CHARACTERS:
        return text
    ending = f" … (whole text: {RESULT_FILE})"
    return text[: MAX_REASON_CHARACTERS - len(ending)] + ending


def _provenance_tags(provenance: Provenance) -> dict[str, str]:
    packages = ", ".join(f"{name} {version}" for name, version in sorted(provenance.packages.items()))
    return {
        "mlflow.source.git.commit": provenance.git_commit or "",
        "git_commit": provenance.git_commit or "",
        "git_dirty": "" if provenance.git_dirty is None else str(provenance.git_dirty).lower(),
        "packages": f"python {provenance.python}, {packages}"[:MAX_TAG_CHARACTERS],
        "weights_sha256": provenance.weights_sha256,
        "split_sha256": provenance.split_sha256,
        "sources_sha256": provenance.sources_sha256,
        "device": provenance.device,
        "host": provenance.host,
    }


def _differing_names(rows: Sequence[Mapping[str, str]]) -> list[str]:
    names = dict.fromkeys(name for row in rows for name in row)
    return [name for name in names if len({row.get(name) for row in rows}) > 1]


def _labelled(name: str, value: str) -> str:
    return value if name in _NAMED_BY_VALUE else f"{name} {value}"


def _as_text(value: Any) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value) or "(empty)"
