"""Weight soups of a study: trials that average what the seeds of a condition have trained, known once all have ended.

A soup's members are the completed seeds, so what it is follows from the ledger alone: a resumed run and `status` find
the same ones. It is evaluated like any trial, chooses on validation, and opens the test split once, under its own id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from benchmark.errors import AdapterTuneError, MissingError, RequestError
from benchmark.request import TRAINS_ON_VALIDATION
from benchmark.result import TrialResult, TrialStatus, why_not_averaged
from benchmark.spec import SoupRecipe, SoupSpec, TrialSpec
from tuning.ledger import Ledger, LedgerEntry
from tuning.scheduled_trial import ScheduledTrial

if TYPE_CHECKING:
    from tuning.study import Study

Seeds = list[ScheduledTrial]


def announced(study: Study) -> Study:
    """Return a study with the number of soups that may come, checked against what its seeds have in common.

    Raises:
        RequestError: The seeds of a condition cannot be averaged, whatever they train.
    """
    recipes = study.spec.soups
    if not recipes:
        return study
    if len(study.spec.seed) < 2:
        raise RequestError("soups", list(recipes), "a soup takes two seeds or more", "Such as seed: [0, 1, 2]")
    for seeds in _conditions(study):
        _check(seeds[0].spec, recipes)
    return replace(study, num_trials_to_come=len(_conditions(study)) * len(recipes))


def _check(spec: TrialSpec, recipes: Sequence[SoupRecipe]) -> None:
    if spec.backbone.weights == "random":
        rule = "seeds on random weights have nothing in common that their trained tensors could be averaged on"
        raise RequestError("soups", list(recipes), rule, "Leave soups out, or name pretrained weights.")
    if spec.dataset.split == "paper":
        rule = "under the split `paper` the seeds have different splits: a soup would be chosen on training images"
        raise RequestError("soups", list(recipes), rule, "Leave soups out, or use protocol: fair")
    if spec.dataset.split in TRAINS_ON_VALIDATION:
        raise RequestError("soups", list(recipes), "no validation image is left to choose on", "Leave soups out.")


def with_soups(study: Study, ledger: Ledger) -> Study:
    """Return a study with the soups that are known from how its seeds have ended, and the number still to come."""
    if not study.spec.soups:
        return study
    conditions = _conditions(study)
    entries = ledger.entries([trial.spec.trial_id for seeds in conditions for trial in seeds])
    ended = [seeds for seeds in conditions if _have_ended(seeds, entries)]
    soups = [soup for seeds in ended for soup in _soups_of(seeds, study.spec.soups, ledger, entries)]
    seeds_alone = tuple(trial for trial in study.trials if trial.spec.soup is None)
    to_come = (len(conditions) - len(ended)) * len(study.spec.soups)
    return replace(study, trials=(*seeds_alone, *soups), num_trials_to_come=to_come)


def _conditions(study: Study) -> list[Seeds]:
    groups: dict[str, Seeds] = {}
    for trial in study.trials:
        if trial.spec.soup is None:
            groups.setdefault(trial.spec.condition_id, []).append(trial)
    return list(groups.values())


def _have_ended(seeds: Seeds, entries: dict[str, LedgerEntry]) -> bool:
    """Return whether no seed will run again: one that failed is tried anew, and the soup would be another with it."""
    states = [entries[trial.spec.trial_id].state if trial.spec.trial_id in entries else None for trial in seeds]
    return all(isinstance(state, TrialStatus) and state.is_final for state in states)


def _soups_of(
    seeds: Seeds, recipes: Sequence[SoupRecipe], ledger: Ledger, entries: dict[str, LedgerEntry]
) -> list[ScheduledTrial]:
    """Return the soups of a condition whose seeds have ended; none where their mean would be no model."""
    completed = [trial for trial in seeds if entries[trial.spec.trial_id].state is TrialStatus.COMPLETED]
    results: list[TrialResult] = [one for trial in completed if (one := ledger.result(trial.spec.trial_id)) is not None]
    if why_not_averaged(results) is not None:
        return []
    members = [trial.spec.trial_id for trial in completed]
    first = completed[0]
    return [
        replace(first, spec=first.spec.model_copy(update={"soup": SoupSpec(recipe=recipe, members=members)}))
        for recipe in recipes
    ]


def ingredients(ledger: Ledger, soup: SoupSpec) -> bytes:
    """Return the trained tensors of a soup's members as safetensors, each under TRIAL_ID/TENSOR.

    What cannot be gathered is said inside: the soup then fails with that reason, as a trial does.
    """
    import safetensors.numpy

    try:
        contents = {trial_id: _trained(ledger, trial_id) for trial_id in soup.members}
    except AdapterTuneError as error:
        return safetensors.numpy.save({}, {"missing": str(error)})
    tensors = {
        f"{trial_id}/{name}": array
        for trial_id, content in contents.items()
        for name, array in safetensors.numpy.load(content).items()
    }
    return safetensors.numpy.save(tensors, {"format": "ingredients"})


def _trained(ledger: Ledger, trial_id: str) -> bytes:
    outcome = ledger.outcome(trial_id)
    if outcome is None or outcome.checkpoint is None:
        raise MissingError(f"the trained tensors of trial {trial_id} are not in the ledger, so no soup can be made")
    return outcome.checkpoint
