"""Optuna's TPE (Bergstra et al., 2011), asked through Ray Tune, in rounds."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from ray.tune.search.optuna import OptunaSearch

from benchmark.spec import Scalar
from tuning.search_space import MAX_REPEATED_DRAWS, Domain, Range

_SCORE = "validation_top1"


class Tpe:
    """Suggests settings of one method that were not tried yet. The same calls give the same settings."""

    def __init__(self, axes: Mapping[str, Domain], seed: int) -> None:
        """Begin without any scores.

        Args:
            axes: What is searched, by `PART.FIELD`.
            seed: Of the sampler's draws.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._axes = axes
        space: dict[str, Any] = {name: _distribution(domain) for name, domain in axes.items()}
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=1)
        self._optuna = OptunaSearch(space=space, metric=_SCORE, mode="max", sampler=sampler)
        self._scores: dict[tuple[Scalar, ...], float | None] = {}
        self._asked: dict[tuple[Scalar, ...], str] = {}
        self._numbers = itertools.count()

    def add(self, values: Mapping[str, Scalar], score: float | None) -> None:
        """Take in a setting that it was not asked for; none where that did not complete."""
        self._optuna.add_evaluated_point(dict(values), score or 0.0, error=score is None)
        self._scores[_key(values)] = score

    def ask(self, number: int) -> list[dict[str, Scalar]]:
        """Return as many different new settings, or fewer where no others are found."""
        found: list[dict[str, Scalar]] = []
        for _ in range(number + MAX_REPEATED_DRAWS):
            if len(found) == number:
                break
            name = str(next(self._numbers))
            suggestion = self._optuna.suggest(name) or {}
            values = {axis: _rounded(domain, suggestion[axis]) for axis, domain in self._axes.items()}
            if _key(values) in self._scores:
                self._complete(name, self._scores[_key(values)])
            elif _key(values) not in self._asked:
                self._asked[_key(values)] = name
                found.append(values)
        return found

    def tell(self, settings: Sequence[Mapping[str, Scalar]], scores: Sequence[float | None]) -> None:
        """Say how the settings of a round did; none for one that did not complete."""
        for values, score in zip(settings, scores, strict=True):
            self._scores[_key(values)] = score
            self._complete(self._asked.pop(_key(values)), score)

    def _complete(self, name: str, score: float | None) -> None:
        self._optuna.on_trial_complete(name, None if score is None else {_SCORE: score}, error=score is None)


def _key(values: Mapping[str, Scalar]) -> tuple[Scalar, ...]:
    return tuple(values.values())


def _distribution(domain: Domain) -> BaseDistribution:
    if not isinstance(domain, Range):
        return CategoricalDistribution(list(domain))
    log = domain.scale == "log"
    if isinstance(domain.low, int) and isinstance(domain.high, int):
        return IntDistribution(domain.low, domain.high, log=log)
    return FloatDistribution(float(domain.low), float(domain.high), log=log)


def _rounded(domain: Domain, value: Scalar) -> Scalar:
    return domain.rounded(value) if isinstance(domain, Range) and isinstance(value, float) else value
