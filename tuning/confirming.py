"""From a locked selection to the study that confirms it: many seeds, the test split read once a trial."""

from __future__ import annotations

from typing import Any

from benchmark.errors import RequestError
from benchmark.request import resolve_trial
from benchmark.spec import TrialSpec
from tuning.selection import LockFile, Selected
from tuning.study import Study, checked, scheduled
from tuning.study_spec import StudySpec

NAME_SUFFIX = "-confirm"


def confirmation(spec: StudySpec, locked: LockFile) -> Study:
    """Return the study that confirms a search's selection, under its own name.

    Args:
        spec: The search.
        locked: Its selection.

    Raises:
        RequestError: The search does not say how to confirm it, or a claim does not fit the selection.
    """
    if spec.confirm is None:
        rule = "the study does not say how its selection is confirmed"
        raise RequestError("confirm", None, rule, "Such as confirm: {seed: [0, 1, 2, 3, 4]}")
    conditions = [_condition(selected, spec.confirm.fit_on) for selected in locked.selections]
    changes = {
        "name": spec.name + NAME_SUFFIX,
        "kind": "confirm",
        "search": None,
        "confirm": None,
        "locked": locked.record,
        "seed": spec.confirm.seed,
        "method": [selected.method for selected in locked.selections],
    }
    confirming = spec.model_copy(update=changes)
    return checked(Study(confirming, scheduled(conditions, spec.confirm.seed, spec.resources)))


def _condition(selected: Selected, fit_on: str) -> TrialSpec:
    request: dict[str, Any] = {
        "backbone": selected.backbone,
        "dataset": selected.dataset,
        "method": selected.method,
        "protocol": selected.protocol,
        "training": selected.training,
    }
    if fit_on == "train_and_validation":
        request["dataset"] = selected.dataset.model_copy(update={"split": fit_on})
        request["protocol"] = selected.protocol.model_copy(update={"selection": "last_epoch"})
    return resolve_trial(request)
