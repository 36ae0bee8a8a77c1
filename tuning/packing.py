"""Which trials of a study train in one pass: equal backbone, data, batch and precision, and a method that packs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from benchmark.methods.contract import find_method
from benchmark.spec import TrialSpec, as_canonical_json, hashed_fields
from tuning.scheduled_trial import ScheduledTrial

DEFAULT_TRIALS_PER_PACK = 8

SPLIT = "split_sha256"
"""Of the data set's fields the only one that may differ: under some protocols the split follows the seed."""


def packed(
    trials: Sequence[ScheduledTrial], max_trials_per_pack: int, num_slots: int
) -> list[tuple[ScheduledTrial, ...]]:
    """Group trials into packs, as large as leaves none of the slots empty; the others stay alone.

    Args:
        trials: In the order in which they should start; a pack starts where its first trial would.
        max_trials_per_pack: 1: no packs.
        num_slots: How many packs run at once.
    """
    if max_trials_per_pack == 1:
        return [(trial,) for trial in trials]
    alike: dict[str, list[int]] = {}
    for index, trial in enumerate(trials):
        alike.setdefault(_key(trial) or f"alone: {index}", []).append(index)
    packs: list[list[int]] = []
    for indices in alike.values():
        # Trials of one seed see the same images, which a pack reads, and runs through what is frozen, only once.
        by_seed = sorted(indices, key=lambda index: trials[index].spec.seed)
        packs += _evenly(by_seed, min(max_trials_per_pack, math.ceil(len(indices) / max(1, num_slots))))
    return [tuple(trials[index] for index in pack) for pack in sorted(packs, key=min)]


def _evenly(indices: Sequence[int], most: int) -> list[list[int]]:
    num_packs = math.ceil(len(indices) / most)
    bounds = [round(number * len(indices) / num_packs) for number in range(num_packs + 1)]
    return [list(indices[start:end]) for start, end in itertools.pairwise(bounds)]


def _key(trial: ScheduledTrial) -> str | None:
    """Return what the trials of a pack have in common; none for a trial that trains alone."""
    spec = trial.spec
    if spec.soup is not None or not _packs(spec):
        return None
    dataset = {name: value for name, value in hashed_fields(spec.dataset).items() if name != SPLIT}
    alike = [hashed_fields(spec.backbone), dataset, spec.training.precision, spec.reads_test, trial.plan.model_dump()]
    return as_canonical_json(alike)


def _packs(spec: TrialSpec) -> bool:
    method = find_method(spec.method.name)
    is_pretrained = spec.backbone.weights != "random"
    return is_pretrained and method.packs(method.Options.model_validate(spec.method.options))
