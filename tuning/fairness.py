"""What makes a search's comparison unfair: warned of, never mended in silence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from benchmark.spec import Scalar
from tuning.search_space import Domain, Range, axes_of
from tuning.study import Setting, Study, Unit

EDGE_SHARE = 0.05
"""How near an end of a range, as a share of its length on its own scale, an optimum lies at its edge."""

MIN_CHOICES_WITH_AN_EDGE = 3


def budget_warnings(study: Study) -> list[str]:
    """Return what is unequal between the methods before any trial runs: settings, image passes, presentation."""
    by_unit: dict[Unit, list[Setting]] = {}
    for setting in study.settings:
        by_unit.setdefault(setting.unit, []).append(setting)
    warnings = []
    numbers = {unit: len(settings) for unit, settings in by_unit.items()}
    if len(set(numbers.values())) > 1:
        warnings.append(f"unequal budgets: {_listed(numbers)} settings")
    untuned = sorted({unit.method for unit, number in numbers.items() if number == 1})
    if untuned and len(untuned) < len({unit.method for unit in numbers}):
        warnings.append(f"untuned: {', '.join(untuned)} runs with one setting while others are tuned")
    passes = {
        unit: sum(setting.condition.training.epochs for setting in settings) for unit, settings in by_unit.items()
    }
    if len(set(passes.values())) > 1 and len(set(numbers.values())) == 1:
        warnings.append(f"unequal budgets: {_listed(passes)} passes over the training images")
    return warnings


def selection_warnings(study: Study, selected: Iterable[Setting]) -> list[str]:
    """Return what a selection shows: optima at the edge of what was tried, and methods presented differently."""
    chosen = list(selected)
    warnings = []
    for setting in chosen:
        for name, domain in _axes(study, setting).items():
            end = _edge(domain, setting.values[name])
            if end is not None:
                place = f"{setting.unit.method} on {setting.unit.backbone}, {setting.unit.dataset}"
                warnings.append(f"at the edge: {name} = {setting.values[name]} of {place} is the {end} that was tried")
    for field, what in (("selection", "checkpoint rules"), ("normalisation", "normalisations")):
        found = {getattr(setting.condition.protocol, field) for setting in chosen}
        if len(found) > 1:
            warnings.append(f"mixed {what}: {', '.join(sorted(found))}")
    return warnings


def _axes(study: Study, setting: Setting) -> Mapping[str, Domain]:
    search = study.spec.search
    assert search is not None
    index = int(setting.unit.where.removeprefix("method[").removesuffix("]"))
    axes = axes_of(search, study.spec.method[index], setting.unit.where)
    return {name: domain for name, domain in axes.items() if name in setting.values}


def _edge(domain: Domain, value: Scalar) -> str | None:
    """Return which end of its domain a number is at; none inside, and where there is no order or nothing inside."""
    if isinstance(value, (bool, str)) or value is None:
        return None
    if isinstance(domain, Range):
        share = domain.share_of(value)
        return "smallest" if share <= EDGE_SHARE else "largest" if share >= 1 - EDGE_SHARE else None
    numbers = sorted({choice for choice in domain if isinstance(choice, (int, float)) and not isinstance(choice, bool)})
    if len(numbers) < MIN_CHOICES_WITH_AN_EDGE:
        return None
    return "smallest" if value == numbers[0] else "largest" if value == numbers[-1] else None


def _listed(numbers: Mapping[Unit, int]) -> str:
    several_places = len({(unit.backbone, unit.dataset) for unit in numbers}) > 1
    names: Sequence[str] = [
        f"{unit.method} ({unit.backbone}, {unit.dataset})" if several_places else unit.method for unit in numbers
    ]
    return ", ".join(f"{name} {number}" for name, number in zip(names, numbers.values(), strict=True))
