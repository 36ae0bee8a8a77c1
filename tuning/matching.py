"""Budget matching: solves each method's size for one figure that all methods share.

The rule: the largest size whose figure is at most the budget. Trained parameters follow from the method's formula and
count without the head, which is the same for every method. Operations and memory are counted on the model itself, with
random weights, so only a study that asks for them needs torch to be expanded. A method whose size cannot be chosen runs
as it is, where the whole study is matched.
"""

from __future__ import annotations

import bisect
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pydantic import Field, ValidationError, model_validator

from benchmark.backbones.contract import BackboneInfo
from benchmark.documents import validated
from benchmark.errors import RequestError
from benchmark.methods.contract import Method, find_method
from benchmark.spec import Frozen, MatchRecord, Scalar, TrainingSpec

Measure = Literal["parameters", "training_flops", "memory_bytes"]
MEASURES: tuple[Measure, ...] = get_args(Measure)

FiguresOf = Callable[[Mapping[str, Any]], Mapping[str, int]]
"""Counts `training_flops` and `memory_bytes` on the model of one entry of `method`, all options single values."""


class MatchSpec(Frozen):
    """The budget that every method's size is solved for: one of the figures."""

    parameters: int | None = Field(
        default=None, ge=1, description="trained parameters without the head; at most so many"
    )
    training_flops: int | None = Field(
        default=None, ge=1, description="operations of one image's forward and backward pass; at most so many"
    )
    memory_bytes: int | None = Field(
        default=None, ge=1, description="one worker's memory, as `plan` estimates it; at most so many bytes"
    )

    @model_validator(mode="after")
    def _is_one_budget(self) -> MatchSpec:
        if sum(getattr(self, measure) is not None for measure in MEASURES) != 1:
            raise ValueError(f"name one budget of {', '.join(MEASURES)}")
        return self

    @property
    def measure(self) -> Measure:
        """The figure that is matched."""
        return next(measure for measure in MEASURES if getattr(self, measure) is not None)

    @property
    def budget(self) -> int:
        """How much of it."""
        return int(getattr(self, self.measure))


@dataclass(frozen=True)
class MatchedCell:
    """A cell of a grid with its size solved, and what was solved; no record where nothing was asked."""

    method: str | dict[str, Any]
    record: MatchRecord | None


def read_match(value: Any, where: str) -> MatchSpec:
    """Check a budget as it is written.

    Raises:
        RequestError: It is no budget, or more than one.
    """
    return validated(MatchSpec, value, where)


def match_cell(
    cell: str | dict[str, Any],
    study_match: MatchSpec | None,
    backbone: BackboneInfo,
    where: str,
    figures_of: FiguresOf,
) -> MatchedCell:
    """Solve the size of one cell of a method's grid.

    Args:
        cell: A method's name, or a mapping of single values that may hold `match`.
        study_match: The study's own budget, where it has one; the cell's goes before it.
        backbone: Whose width and depth count.
        where: Path of the method's entry.
        figures_of: Counts what has no formula; called only where that is matched.

    Raises:
        RequestError: The budget is out of the method's reach, or its size was given too.
    """
    values = {"name": cell} if isinstance(cell, str) else dict(cell)
    own = values.pop("match", None)
    match = read_match(own, f"{where}.match") if own is not None else study_match
    if match is None or not isinstance(values.get("name"), str):
        return MatchedCell(values if own is not None else cell, None)
    matching = _Matching(match, find_method(values["name"], f"{where}.name"), values, backbone, where, figures_of)
    if matching.size is None and own is not None:
        rule = f"the size of {matching.method.name} cannot be chosen"
        raise RequestError(f"{where}.match", own, rule, "Leave match out of this entry.")
    return matching.solved()


@dataclass(frozen=True)
class _Matching:
    """One method's entry and the budget its size is solved for; the fields are `match_cell`'s."""

    match: MatchSpec
    method: Method
    values: Mapping[str, Any]
    backbone: BackboneInfo
    where: str
    figures_of: FiguresOf

    @property
    def options(self) -> dict[str, Any]:
        """The method's own options, without the training fields beside them."""
        return {
            key: value for key, value in self.values.items() if key != "name" and key not in TrainingSpec.model_fields
        }

    @property
    def size(self) -> str | None:
        """The option to solve."""
        return self.method.size_option(self.options)

    def solved(self) -> MatchedCell:
        """Return the entry with its size, and what was achieved."""
        size, values = self.size, dict(self.values)
        if size is not None:
            if size in values:
                rule = f"match solves {size}, so it cannot be given too"
                raise RequestError(f"{self.where}.{size}", values[size], rule, f"Leave out {size}, or match.")
            values[size] = self._largest(size)
        options = {key: value for key, value in values.items() if key in self.options or key == size}
        checked = validated(self.method.Options, options, self.where, valid_keys=TrainingSpec.model_fields)
        asked = {self.match.measure: self.match.budget}
        parameters = self.method.count_parameters(checked, self.backbone)
        achieved = parameters if self.match.measure == "parameters" else self._figure(values)
        return MatchedCell(values, MatchRecord(**asked, option=size, achieved_parameters=parameters, achieved=achieved))

    def _largest(self, size: str) -> Scalar:
        """Return the allowed size with the largest figure within the budget."""
        counts = {value: self._count(size, value) for value in self.method.sizes(size, self.backbone)}
        allowed = {value: count for value, count in counts.items() if count is not None}
        if not allowed:  # no size is allowed, so something else is wrong: say what
            raise self._refused(size, next(iter(counts)))
        # Every figure grows with the trained parameters, so the first size that is too large ends the search.
        sizes = sorted(allowed, key=lambda value: allowed[value])
        figure = allowed.__getitem__ if self.match.measure == "parameters" else self._figure_at(size)
        smallest, largest = figure(sizes[0]), figure(sizes[-1])
        if not smallest <= self.match.budget <= largest:
            rule = f"{self.method.name} cannot be matched to it on {self.backbone.name} by its {size}"
            what = "parameters without the head" if self.match.measure == "parameters" else self.match.measure
            hint = f"Reachable: {smallest:,} to {largest:,} {what}."
            raise RequestError(f"{self.where}.match.{self.match.measure}", self.match.budget, rule, hint)
        return sizes[bisect.bisect_right(sizes, self.match.budget, key=figure) - 1]

    def _figure_at(self, size: str) -> Callable[[Scalar], int]:
        return functools.cache(lambda value: self._figure({**self.values, size: value}))

    def _figure(self, values: Mapping[str, Any]) -> int:
        return self.figures_of(values)[self.match.measure]

    def _count(self, size: str, value: Scalar) -> int | None:
        """Return the parameters at a size; none where it is not allowed."""
        try:
            checked = self.method.Options.model_validate({**self.options, size: value})
        except ValidationError:
            return None
        refused = self.method.check(checked, self.backbone)
        return None if refused else self.method.count_parameters(checked, self.backbone)

    def _refused(self, size: str, value: Scalar) -> RequestError:
        valid_keys = [*TrainingSpec.model_fields, "match"]
        checked = validated(self.method.Options, {**self.options, size: value}, self.where, valid_keys=valid_keys)
        return RequestError.of([problem.below(self.where) for problem in self.method.check(checked, self.backbone)])
