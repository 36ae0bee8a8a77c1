"""Budget matching: solves each method's size from its parameter formula, without torch or weights.

The rule: the largest size whose trained parameters, without the head, are at most the budget. Every method has the same
head, so it is not counted. A method whose size cannot be chosen runs as it is, where the whole study is matched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field, ValidationError

from benchmark.backbones.contract import BackboneInfo
from benchmark.documents import validated
from benchmark.errors import RequestError
from benchmark.methods.contract import Method, find_method
from benchmark.spec import Frozen, MatchRecord, Scalar, TrainingSpec

UNMATCHABLE = ("flops", "memory")


class MatchSpec(Frozen):
    """The budget that every method's size is solved for."""

    parameters: int = Field(ge=1, description="trained parameters without the head; at most so many")


@dataclass(frozen=True)
class MatchedCell:
    """A cell of a grid with its size solved, and what was solved; no record where nothing was asked."""

    method: str | dict[str, Any]
    record: MatchRecord | None


def read_match(value: Any, where: str) -> MatchSpec:
    """Check a budget as it is written.

    Raises:
        RequestError: It is no budget of parameters.
    """
    for name in UNMATCHABLE:
        if isinstance(value, Mapping) and name in value:
            rule = f"{name} cannot be matched: they are counted on the built model, and a study expands without torch"
            raise RequestError(f"{where}.{name}", value[name], rule, "Use match: {parameters: N}.")
    return validated(MatchSpec, value, where)


def match_cell(
    cell: str | dict[str, Any], study_match: MatchSpec | None, backbone: BackboneInfo, where: str
) -> MatchedCell:
    """Solve the size of one cell of a method's grid.

    Args:
        cell: A method's name, or a mapping of single values that may hold `match`.
        study_match: The study's own budget, where it has one; the cell's goes before it.
        backbone: Whose width and depth count.
        where: Path of the method's entry.

    Raises:
        RequestError: The budget is out of the method's reach, or its size was given too.
    """
    values = {"name": cell} if isinstance(cell, str) else dict(cell)
    own = values.pop("match", None)
    match = read_match(own, f"{where}.match") if own is not None else study_match
    if match is None or not isinstance(values.get("name"), str):
        return MatchedCell(values if own is not None else cell, None)
    method = find_method(values["name"], f"{where}.name")
    options = {key: value for key, value in values.items() if key != "name" and key not in TrainingSpec.model_fields}
    size = method.size_option(options)
    if size is None:
        return _as_it_is(method, values, options, match, is_asked=own is not None, backbone=backbone, where=where)
    if size in values:
        rule = f"match solves {size}, so it cannot be given too"
        raise RequestError(f"{where}.{size}", values[size], rule, f"Leave out {size}, or match.")
    value, achieved = _solve(method, options, size, match.parameters, backbone, where)
    record = MatchRecord(parameters=match.parameters, option=size, achieved_parameters=achieved)
    return MatchedCell({**values, size: value}, record)


def _as_it_is(
    method: Method,
    values: dict[str, Any],
    options: Mapping[str, Any],
    match: MatchSpec,
    *,
    is_asked: bool,
    backbone: BackboneInfo,
    where: str,
) -> MatchedCell:
    """Return a method whose size is fixed, marked so; refuse it where its own entry asks for a budget."""
    if is_asked:
        rule = f"the size of {method.name} cannot be chosen"
        raise RequestError(f"{where}.match", match.model_dump(), rule, "Leave match out of this entry.")
    checked = validated(method.Options, options, where, valid_keys=TrainingSpec.model_fields)
    achieved = method.count_parameters(checked, backbone)
    return MatchedCell(values, MatchRecord(parameters=match.parameters, option=None, achieved_parameters=achieved))


def _solve(
    method: Method, options: Mapping[str, Any], size: str, budget: int, backbone: BackboneInfo, where: str
) -> tuple[Scalar, int]:
    """Return the allowed size with the most parameters within the budget, and its parameters."""
    values = method.sizes(size, backbone)
    counts = {value: _count(method, {**options, size: value}, backbone) for value in values}
    allowed = {value: count for value, count in counts.items() if count is not None}
    if not allowed:  # no size is allowed, so something else is wrong: say what
        checked = validated(
            method.Options, {**options, size: values[0]}, where, valid_keys=[*TrainingSpec.model_fields, "match"]
        )
        raise RequestError.of([problem.below(where) for problem in method.check(checked, backbone)])
    if not min(allowed.values()) <= budget <= max(allowed.values()):
        rule = f"{method.name} cannot be matched to it on {backbone.name} by its {size}"
        hint = f"Reachable: {min(allowed.values()):,} to {max(allowed.values()):,} parameters without the head."
        raise RequestError(f"{where}.match.parameters", budget, rule, hint)
    return max(((value, count) for value, count in allowed.items() if count <= budget), key=lambda pair: pair[1])


def _count(method: Method, options: Mapping[str, Any], backbone: BackboneInfo) -> int | None:
    """Return the parameters with these options; none where they are not allowed."""
    try:
        checked = method.Options.model_validate(options)
    except ValidationError:
        return None
    return None if method.check(checked, backbone) else method.count_parameters(checked, backbone)
