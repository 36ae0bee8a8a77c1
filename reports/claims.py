"""What a study claims before it runs: the spec of a claim, and the check that its conditions are in the plan.

Judging a claim after the run is `reports.verdicts`' matter; this file imports pydantic alone, so that reading a study
stays quick.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from benchmark.errors import Problem, nearest
from benchmark.spec import Scalar
from reports.fields import Setting, method_of, options_of, same_value, selectable_fields, setting_of

if TYPE_CHECKING:
    from benchmark.tracking import PlannedTrial

Selector = Mapping[str, Scalar]
Matches = dict[Setting, list[str]]


class ClaimSpec(BaseModel):
    """A statement a - b > margin, made before any run, for every backbone and data set where both sides are planned.

    A backbone with a data set is a pair. A claim about pairs is judged pair by pair; `over: mean` makes it one about
    the mean over them, and `parameter_share_below` one about what the two sides train.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(min_length=1, description="a short name, unique in the study")
    text: str = Field(min_length=1, description="the claim as a reader would say it")
    a: dict[str, Scalar] = Field(min_length=1, description="fields that select one condition a backbone and data set")
    b: dict[str, Scalar] = Field(min_length=1, description="the same for what it is compared with")
    margin: float = Field(
        default=0.0, gt=-1, lt=1, description="the difference in test top-1, as a fraction, that a - b must exceed"
    )
    over: Literal["pairs", "mean"] = Field(
        default="pairs", description="pairs: judged on each backbone and data set; mean: on the mean over them"
    )
    at_least_fraction: float = Field(
        default=1.0, gt=0, le=1, description="the share of pairs that must exceed the margin; 1: every one"
    )
    parameter_share_below: float | None = Field(
        default=None,
        gt=0,
        description="instead of accuracies: a trains less than this fraction of b's parameters, in the mean over pairs",
    )
    published: float | None = Field(
        default=None, description="the figure published for the mean, a fraction: cited beside the result, never judged"
    )

    @model_validator(mode="after")
    def _one_kind_of_claim(self) -> ClaimSpec:
        """Refuse settings that the claim's kind does not read."""
        if self.at_least_fraction < 1 and (self.over == "mean" or self.parameter_share_below is not None):
            raise ValueError("at_least_fraction is for claims over pairs: leave it out, or `over` and the share")
        if self.parameter_share_below is not None and self.margin:
            raise ValueError("margin is for accuracies, parameter_share_below for parameters: give one of them")
        return self


def match(selector: Selector, planned: Sequence[PlannedTrial]) -> Matches:
    """Return the condition ids that a selector matches, by setting; a field that a trial lacks matches nothing."""
    matches: Matches = {}
    for trial in planned:
        fields = selectable_fields(trial.spec)
        if all(name in fields and same_value(fields[name], value) for name, value in selector.items()):
            conditions = matches.setdefault(setting_of(trial.spec), [])
            if trial.condition_id not in conditions:
                conditions.append(trial.condition_id)
    return matches


def matched_pairs(claim: ClaimSpec, planned: Sequence[PlannedTrial]) -> list[tuple[str, str]]:
    """Return the condition ids (a, b) of a checked claim, one pair for every setting that has both sides."""
    a, b = match(claim.a, planned), match(claim.b, planned)
    return [(a[setting][0], b[setting][0]) for setting in a if setting in b]


def check_claims(claims: Sequence[ClaimSpec], planned: Sequence[PlannedTrial]) -> list[Problem]:
    """Return what is wrong with a study's claims, before any of its trials runs."""
    problems: list[Problem] = []
    seen: set[str] = set()
    for index, claim in enumerate(claims):
        found = _check_claim(claim, planned)
        if claim.id in seen:
            found.append(Problem("id", claim.id, "every claim needs an id of its own"))
        seen.add(claim.id)
        problems += [problem.below(f"claims[{index}]") for problem in found]
    return problems


def _check_claim(claim: ClaimSpec, planned: Sequence[PlannedTrial]) -> list[Problem]:
    problems = _check_selector("a", claim.a, planned) + _check_selector("b", claim.b, planned)
    if problems:
        return problems
    a, b = match(claim.a, planned), match(claim.b, planned)
    shared = [setting for setting in a if setting in b]
    if not shared:
        rule = "both sides must be planned for one same backbone and data set"
        return [Problem("", f"a: {_settings(a)}; b: {_settings(b)}", rule)]
    for side, selector, matches in (("a", claim.a, a), ("b", claim.b, b)):
        problems += _check_unique(side, selector, matches, shared, planned)
    if not problems and any(a[setting] == b[setting] for setting in shared):
        problems.append(Problem("", claim.id, "the two sides must be different conditions"))
    return problems


def _check_selector(side: str, selector: Selector, planned: Sequence[PlannedTrial]) -> list[Problem]:
    """Return a problem for every unknown field, or one when nothing is matched."""
    fields = {name for trial in planned for name in selectable_fields(trial.spec)}
    unknown = [name for name in selector if name not in fields]
    if unknown:
        rule = "a selector names fields of the study's trials"
        return [Problem(f"{side}.{name}", selector[name], rule, nearest(name, fields)) for name in unknown]
    if match(selector, planned):
        return []
    hint = "; ".join(_values_hint(name, planned) for name in selector)
    return [Problem(side, dict(selector), "no planned condition matches", f"The study has {hint}.")]


def _values_hint(name: str, planned: Sequence[PlannedTrial]) -> str:
    fields = (selectable_fields(trial.spec) for trial in planned)
    values = {str(trial_fields[name]) for trial_fields in fields if name in trial_fields}
    return f"{name}: {', '.join(sorted(values))}"


def _check_unique(
    side: str, selector: Selector, matches: Matches, shared: Sequence[Setting], planned: Sequence[PlannedTrial]
) -> list[Problem]:
    """Return a problem for the first setting in which a selector matches several conditions."""
    specs = {trial.condition_id: trial.spec for trial in planned}
    for setting in shared:
        if len(matches[setting]) > 1:
            fields = [selectable_fields(specs[condition]) for condition in matches[setting]]
            differing = sorted(
                {name for name in fields[0] for other in fields if not same_value(fields[0][name], other.get(name))}
            )
            names = ", ".join(_describe(specs[condition], differing) for condition in matches[setting])
            rule = f"it must match one condition in {setting.name}, it matches {len(matches[setting])}: {names}"
            hint = f"Name {' or '.join(differing) or 'what tells them apart'} too."
            return [Problem(side, dict(selector), rule, hint)]
    return []


def _describe(spec: Mapping[str, object], differing: Sequence[str]) -> str:
    fields = selectable_fields(spec)
    shown = [name for name in differing if name in fields and (name in options_of(spec) or name != "method")]
    return " ".join([method_of(spec), *(f"{name}={fields[name]}" for name in shown)])


def _settings(matches: Matches) -> str:
    return ", ".join(setting.name for setting in matches)
