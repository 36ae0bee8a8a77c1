"""Weight soups: one model whose trained tensors are the mean of several trials' that differ in their seed alone.

Source: Wortsman et al. (2022), arXiv 2203.05482; the greedy soup is its recipe 1.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import safetensors.torch
import torch
from torch import Tensor

from benchmark.errors import MissingError
from benchmark.result import Scores, TrialOutcome
from benchmark.training.checkpoint import read_metadata, restore
from benchmark.training.open_trial import OpenTrial

MEMBER_SEPARATOR = "/"
"""Between a member's trial id and the name of its tensor."""

MISSING = "missing"
"""In the metadata of ingredients: why they could not be gathered."""

Tensors = Mapping[str, Tensor]


def soup_outcome(trial: OpenTrial, ingredients: bytes | None) -> TrialOutcome:
    """Mix a soup on this rank, choosing on validation, and open the test split, once.

    Args:
        trial: The open soup.
        ingredients: Trained tensors of its members, as safetensors named TRIAL_ID/TENSOR.

    Raises:
        MissingError: The members' tensors could not be gathered.
    """
    soup = trial.spec.soup
    assert soup is not None, "only a soup is mixed"
    started = time.perf_counter()
    members = _members(ingredients)

    def scores_of(names: Sequence[str]) -> Scores:
        restore(trial.trainable, average([members[name] for name in names]))
        return trial.validation.scores()

    names = list(soup.members) if soup.recipe == "uniform" else greedy(soup.members, scores_of)
    scores = scores_of(names)
    trial.state.selected_scores = scores
    trial.soup_members = names
    trial.other_evaluation_seconds += time.perf_counter() - started
    return trial.finish()


def greedy(names: Sequence[str], scores_of: Callable[[Sequence[str]], Scores]) -> list[str]:
    """Return the members of a greedy soup: the best first, then each that does not lower validation top-1.

    Args:
        names: Those that may go in; of equals the one with the lower loss, then the first, is tried earlier.
        scores_of: Validation scores of the mean of some of them.
    """
    alone = {name: scores_of([name]) for name in names}
    first, *others = sorted(names, key=lambda name: (-alone[name].top1, alone[name].loss))
    chosen, best = [first], alone[first].top1
    for name in others:
        top1 = scores_of([*chosen, name]).top1
        if top1 >= best:
            chosen, best = [*chosen, name], top1
    return chosen


def average(members: Sequence[Tensors]) -> dict[str, Tensor]:
    """Return the mean of tensors of the same names, summed in double precision."""
    first = members[0]
    return {
        name: torch.stack([member[name].double() for member in members]).mean(dim=0).to(tensor.dtype)
        for name, tensor in first.items()
    }


def _members(ingredients: bytes | None) -> dict[str, dict[str, Tensor]]:
    if ingredients is None:
        raise MissingError("a soup needs its members' trained tensors: `adaptertune run STUDY` hands them over")
    missing = read_metadata(ingredients).get(MISSING)
    if missing:
        raise MissingError(missing)
    members: dict[str, dict[str, Tensor]] = {}
    for key, tensor in safetensors.torch.load(ingredients).items():
        trial_id, _, name = key.partition(MEMBER_SEPARATOR)
        members.setdefault(trial_id, {})[name] = tensor
    return members
