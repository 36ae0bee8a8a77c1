"""Asynchronous successive halving (ASHA) for a search: among the settings of one method, never across methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from benchmark.result import EpochRecord
from tuning.search_space import EarlyStoppingSpec
from tuning.study import Study, Unit
from tuning.trainable import TRIAL_IDS


class HalvingWithinUnits(FIFOScheduler):
    """One ASHA for each method on each backbone and data set, so that none is given up for being another method.

    A trial that reaches its last epoch is always finished: only unfinished ones are given up.
    """

    def __init__(self, spec: EarlyStoppingSpec, units: Mapping[str, Unit], epochs: Mapping[str, int]) -> None:
        """Start without any scores.

        Args:
            spec: When the halving begins, and how steep it is.
            units: What each trial belongs to, by its id.
            epochs: How many each trial has, by its id.
        """
        super().__init__()
        self._units, self._epochs = units, epochs
        longest: dict[Unit, int] = {}
        for trial_id, unit in units.items():
            longest[unit] = max(longest.get(unit, 0), epochs[trial_id])
        self._halvings = {
            unit: ASHAScheduler(
                time_attr="epoch",
                metric="validation_top1",
                mode="max",
                max_t=num_epochs - 1,
                grace_period=spec.grace_epochs,
                reduction_factor=spec.reduction_factor,
                stop_last_trials=False,
            )
            for unit, num_epochs in longest.items()
        }

    def remember(self, trial_id: str, records: Sequence[EpochRecord]) -> None:
        """Take in the epochs of a trial that ended in an earlier run, so that later ones are compared with it."""
        halving, nobody = self._halvings[self._units[trial_id]], cast("Any", None)
        trial = cast("Any", SimpleNamespace(trial_id=trial_id))
        halving.on_trial_add(nobody, trial)
        for record in records:
            halving.on_trial_result(nobody, trial, {"epoch": record.epoch, "validation_top1": record.validation_top1})

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Tune: a trial is there."""
        self._of(trial).on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Tune: an epoch has ended, and the trial goes on or not."""
        # Epoch 0 is the untouched start, and after the last one there is nothing to save.
        if not 0 < result.get("epoch", 0) < self._epochs[trial.config[TRIAL_IDS]]:
            return str(TrialScheduler.CONTINUE)
        return str(self._of(trial).on_trial_result(tune_controller, trial, result))

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Tune: a trial is over."""
        self._of(trial).on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Tune: a trial is gone."""
        self._of(trial).on_trial_remove(tune_controller, trial)

    def _of(self, trial: Any) -> ASHAScheduler:
        return self._halvings[self._units[trial.config[TRIAL_IDS]]]


def halving_of(study: Study) -> HalvingWithinUnits | None:
    """Return what gives up a search's trials early; none where nothing does."""
    spec = study.spec.search.early_stopping if study.spec.search else None
    if spec is None:
        return None
    units: dict[str, Unit] = {}
    epochs: dict[str, int] = {}
    for setting in study.settings:
        for seed in study.spec.seed:
            trial_id = setting.condition.model_copy(update={"seed": seed}).trial_id
            units[trial_id], epochs[trial_id] = setting.unit, setting.condition.training.epochs
    return HalvingWithinUnits(spec, units, epochs)
