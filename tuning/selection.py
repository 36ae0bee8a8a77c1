"""What a search found: the best setting of each method on validation, and the file that locks it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import Field

from benchmark.documents import load_yaml, require_mapping, validated
from benchmark.errors import RequestError
from benchmark.provenance import user_name, utc_now
from benchmark.request import BackboneRequest, DatasetRequest, ProtocolRequest
from benchmark.result import TrialResult, TrialStatus
from benchmark.spec import Frozen, Scalar, as_canonical_json
from tuning.files import replace_atomically
from tuning.study import Setting, Study, Unit
from tuning.study_spec import LockRecord, StudySpec

if TYPE_CHECKING:
    from benchmark.tracking import StudyRecord

HEADER = """\
# A search's selection, chosen on validation alone: `adaptertune confirm {study} --locked FILE` runs it. Edited, it is
# refused.
"""


class Selected(Frozen):
    """The setting that was selected for one method on one backbone and data set."""

    backbone: BackboneRequest
    dataset: DatasetRequest
    method: str | dict[str, Any] = Field(description="the entry with single values")
    protocol: ProtocolRequest
    training: dict[str, Any]
    condition_id: str = Field(description="of the search's trials with this setting")
    values: dict[str, Scalar] = Field(description="the searched fields")
    validation_top1_mean: float = Field(description="over the search's seeds, fraction in [0, 1]")
    run_ids: list[str] = Field(description="the search's runs with this setting, by seed")
    num_settings: int = Field(description="tried for this method")
    num_scored: int = Field(description="of them, those whose trials all completed")
    num_image_passes: int = Field(description="passes over the training images that this method's search took")


class LockFile(Frozen):
    """A selection as it is written to a file."""

    study: str = Field(description="the search")
    study_sha256: str = Field(description="of the search as it is written, without what only the confirmation reads")
    run_id: str = Field(description="its parent run")
    tracking_uri: str
    locked_at: str = Field(description="ISO 8601, UTC")
    locked_by: str | None
    warnings: list[str] = Field(description="what the selection's fairness lacks")
    selections: list[Selected] = Field(min_length=1)

    @property
    def sha256(self) -> str:
        """The hash of the content."""
        return hashlib.sha256(as_canonical_json(self.model_dump(mode="json")).encode()).hexdigest()

    @property
    def record(self) -> LockRecord:
        """What a confirmation keeps of it."""
        return LockRecord(
            study=self.study,
            run_id=self.run_id,
            locked_at=self.locked_at,
            locked_by=self.locked_by,
            sha256=self.sha256,
            warnings=self.warnings,
        )


def search_sha256(spec: StudySpec) -> str:
    """Return the hash of a search as far as it decides the selection: its claims and its confirmation do not."""
    decides = spec.model_dump(mode="json", exclude={"claims", "confirm", "question", "resources"})
    return hashlib.sha256(as_canonical_json(decides).encode()).hexdigest()


def select(study: Study, record: StudyRecord) -> dict[Unit, tuple[Setting, Selected]]:
    """Return the best setting of every method: by mean validation top-1, then by lower mean validation loss.

    A setting of which a trial did not complete was tried, and is not eligible.

    Args:
        study: The search.
        record: What tracking knows of it.

    Raises:
        RequestError: It is no search, a trial has not ended yet, or no setting of a method completed.
    """
    if study.spec.kind != "search":
        rule = "only a study of kind search has something to select"
        raise RequestError(
            "study", study.spec.name, rule, f"Its conditions are fixed: adaptertune run {study.spec.name}"
        )
    ended = {trial.result.trial_id: trial for trial in record.trials}
    num_open = sum(trial_id not in ended for trial_id in study.trial_specs) + study.num_trials_to_come
    if num_open:
        rule = f"{num_open} of {study.num_trials} trials have not ended, so nothing can be selected yet"
        raise RequestError("study", study.spec.name, rule, f"Run them: adaptertune run {study.spec.name}")
    by_unit: dict[Unit, list[Setting]] = {}
    for setting in study.settings:
        by_unit.setdefault(setting.unit, []).append(setting)
    return {unit: _best(unit, settings, study.spec.seed, ended) for unit, settings in by_unit.items()}


def _best(
    unit: Unit, settings: Sequence[Setting], seeds: Sequence[int], ended: Mapping[str, Any]
) -> tuple[Setting, Selected]:
    scored: list[tuple[float, float, Setting, list[str]]] = []
    for setting in settings:
        trials = [ended[setting.condition.model_copy(update={"seed": seed}).trial_id] for seed in seeds]
        results: list[TrialResult] = [trial.result for trial in trials]
        scores = [result.validation for result in results if result.status is TrialStatus.COMPLETED]
        if len(scores) == len(seeds) and None not in scores:
            top1, loss = fmean(one.top1 for one in scores if one), fmean(one.loss for one in scores if one)
            scored.append((top1, loss, setting, [trial.run_id for trial in trials]))
    if not scored:
        rule = f"none of the {len(settings)} settings of {unit.method} completed"
        raise RequestError(f"{unit.where} on {unit.backbone}, {unit.dataset}", None, rule, "`status` says why.")
    # `max` keeps the first of equals, which is the first setting tried.
    top1, _, setting, run_ids = max(scored, key=lambda entry: (entry[0], -entry[1]))
    passes = sum(tried.condition.training.epochs for tried in settings) * len(seeds)
    selected = Selected(
        **setting.request,
        condition_id=setting.condition.condition_id,
        values=dict(setting.values),
        validation_top1_mean=top1,
        run_ids=run_ids,
        num_settings=len(settings),
        num_scored=len(scored),
        num_image_passes=passes,
    )
    return setting, selected


def lock(study: Study, record: StudyRecord, selections: Sequence[Selected], warnings: Sequence[str]) -> LockFile:
    """Return a selection with what it came from."""
    return LockFile(
        study=study.spec.name,
        study_sha256=search_sha256(study.spec),
        run_id=record.run_id,
        tracking_uri=record.tracking_uri,
        locked_at=utc_now(),
        locked_by=user_name(),
        warnings=list(warnings),
        selections=list(selections),
    )


def write_lock(locked: LockFile, path: Path) -> None:
    """Write a locked selection as YAML, whole or not at all."""
    document = {"sha256": locked.sha256, **locked.model_dump(mode="json", exclude_none=True)}
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)
    replace_atomically(path, (HEADER.format(study=locked.study) + text).encode())


def read_lock(path: Path, spec: StudySpec) -> LockFile:
    """Read the locked selection of a search.

    Raises:
        RequestError: It is no such file, was edited, or belongs to another search or another state of it.
    """
    document = require_mapping(load_yaml(path), str(path))
    sha256 = document.pop("sha256", None)
    document.setdefault("locked_by", None)
    locked = validated(LockFile, document, str(path))
    if locked.study != spec.name:
        raise RequestError(f"{path}: study", locked.study, f"the selection is not one of {spec.name}")
    if locked.sha256 != sha256:
        hint = f"Write it anew: adaptertune lock {spec.name} --out {path}"
        raise RequestError(f"{path}: sha256", sha256, "the file was edited after it was locked", hint)
    if locked.study_sha256 != search_sha256(spec):
        rule = f"the study {spec.name} has changed since the selection"
        raise RequestError(
            f"{path}: study_sha256", locked.study_sha256[:12], rule, "Run the search again, then lock it."
        )
    return locked
