"""The settings that a search tries: all of them at once, or rounds that depend on the scores of those before.

A sequential search keeps no state of its own. Its rounds are a function of the study and of the scores, so they are the
same whoever asks for them again: a resumed run, `status`, `lock`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from benchmark.errors import RequestError
from benchmark.result import TrialResult, TrialStatus
from benchmark.spec import Scalar
from tuning.search_space import Domain, SearchSpec, axes_of, drawn_settings, grid_settings


@dataclass(frozen=True)
class Cell:
    """One setting of one entry of `method`.

    Attributes:
        method: The entry with single values.
        shared: The values of `search.space`, by `PART.FIELD`.
        values: All searched values by `PART.FIELD`, the method's own under `method.`.
    """

    method: str | dict[str, Any]
    shared: Mapping[str, Scalar]
    values: Mapping[str, Scalar]


@dataclass(frozen=True)
class Ended:
    """How a trial, or a setting with all of its trials, ended.

    Attributes:
        validation_top1: Fraction in [0, 1]; none where it did not complete.
    """

    validation_top1: float | None


Scores = Callable[[str], Ended | None]
"""How the trial of an id has ended; none where it has not."""


def ended_as(result: TrialResult | None) -> Ended | None:
    """Return how a trial with this result has ended, as a search sees it."""
    if result is None:
        return None
    completed = result.status is TrialStatus.COMPLETED and result.validation is not None
    return Ended(result.validation.top1 if completed and result.validation else None)


def nothing_ended(trial_id: str) -> Ended | None:
    """Return none: what is known of a study before it runs."""
    return None


def mean_score(trial_ids: Sequence[str], scores: Scores) -> Ended | None:
    """Return how a setting with these trials has ended; none while one of them has not."""
    ended = [one for trial_id in trial_ids if (one := scores(trial_id)) is not None]
    if len(ended) < len(trial_ids):
        return None
    completed = [one.validation_top1 for one in ended if one.validation_top1 is not None]
    return Ended(fmean(completed) if len(completed) == len(ended) else None)


def cells(
    search: SearchSpec, entry: str | Mapping[str, Any], where: str, score: Callable[[Cell], Ended | None]
) -> Iterator[Cell]:
    """Yield the settings of one entry of `method`, as far as they are known.

    Args:
        search: How they are chosen.
        entry: The entry.
        where: Its path, for errors.
        score: How a cell that was yielded has ended; none where it has not. Only a sequential search asks.

    Raises:
        RequestError: The space does not hold as many settings as asked for, or a grid has a range.
    """
    axes = axes_of(search, entry, where)
    if search.by == "grid":
        tried = grid_settings(axes, where)
    elif search.by == "random":
        tried = drawn_settings(search, axes, where)
    else:
        tried = _sequential(search, axes, where, lambda values: score(_cell(entry, values)))
    for values in tried:
        yield _cell(entry, values)


def num_settings(search: SearchSpec, entry: str | Mapping[str, Any], where: str) -> int:
    """Return how many settings of an entry the whole search tries."""
    axes = axes_of(search, entry, where)
    if search.settings is None:
        return sum(1 for _ in grid_settings(axes, where))
    return search.settings if axes else 1


def _cell(entry: str | Mapping[str, Any], values: Mapping[str, Scalar]) -> Cell:
    own = {name.partition(".")[2]: value for name, value in values.items() if name.startswith("method.")}
    method = entry if isinstance(entry, str) else {**entry, **own}
    shared = {name: value for name, value in values.items() if not name.startswith("method.")}
    return Cell(method, shared, values)


def _sequential(
    search: SearchSpec,
    axes: Mapping[str, Domain],
    where: str,
    score: Callable[[Mapping[str, Scalar]], Ended | None],
) -> Iterator[dict[str, Scalar]]:
    """Yield the settings that TPE has suggested by now.

    The first ones are those of a random search, so methods that share a field begin with the same values of it.
    """
    wanted = search.settings if axes and search.settings else 1
    first = list(itertools.islice(drawn_settings(search, axes, where), search.num_startup))
    yield from first
    scores = _scores(first, score)
    if len(first) == wanted or scores is None:
        return
    from tuning.tpe import Tpe  # Ray Tune and Optuna take a while to import

    tpe = Tpe(axes, search.seed)
    for values, one in zip(first, scores, strict=True):
        tpe.add(values, one)
    tried = len(first)
    while tried < wanted and scores is not None:
        settings = tpe.ask(min(search.num_at_once, wanted - tried))
        if not settings:
            rule = f"{where}: no more than {tried} different settings of {', '.join(axes)} were found"
            raise RequestError("search.settings", wanted, rule, f"Ask for {tried}, or add values.")
        yield from settings
        tried += len(settings)
        scores = _scores(settings, score)
        if scores is not None:
            tpe.tell(settings, scores)


def _scores(
    settings: Sequence[Mapping[str, Scalar]], score: Callable[[Mapping[str, Scalar]], Ended | None]
) -> list[float | None] | None:
    """Return the score of each setting of a round; none while one has not ended."""
    ended = [one for values in settings if (one := score(values)) is not None]
    return [one.validation_top1 for one in ended] if len(ended) == len(settings) else None
