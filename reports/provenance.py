"""Where a study's numbers come from: the distinct values that its completed trials stored, and what does not agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmark.result import Provenance
from reports.conditions import Condition, SeedResult
from reports.formatting import plural


@dataclass(frozen=True)
class Fact:
    """One line of provenance: what it is, and each value with the number of trials that have it."""

    name: str
    values: tuple[tuple[str, int], ...]


def provenance_facts(conditions: Sequence[Condition]) -> list[Fact]:
    """Return commit, sources, interpreter, devices, launch plans and the time span over all completed trials."""
    readers: dict[str, Callable[[Provenance], str]] = {
        "Commit": lambda origin: (
            f"{origin.git_commit or 'unknown'}{' (uncommitted changes)' if origin.git_dirty else ''}"
        ),
        "Digest of the sources": lambda origin: origin.sources_sha256,
        "Python": lambda origin: origin.python,
        "Device": lambda origin: origin.device,
        "Host": lambda origin: origin.host,
        "Launch plan": lambda origin: ", ".join(f"{key} {value}" for key, value in sorted(origin.launch_plan.items())),
    }
    origins = [origin for condition in conditions for origin in _origins(condition)]
    facts = [Fact(name, _counted([reader(origin) for origin in origins])) for name, reader in readers.items()]
    if origins:
        first, last = min(origin.started_at for origin in origins), max(origin.finished_at for origin in origins)
        facts.append(Fact("First start, last end (UTC)", ((f"{first} – {last}", len(origins)),)))
    return [*facts, *_weights(conditions), *_splits(conditions)]


def package_versions(conditions: Sequence[Condition]) -> list[Fact]:
    """Return every package's version; a package with several has several values."""
    origins = [origin for condition in conditions for origin in _origins(condition)]
    names = sorted({name for origin in origins for name in origin.packages})
    return [Fact(name, _counted([origin.packages.get(name, "absent") for origin in origins])) for name in names]


def disagreements(conditions: Sequence[Condition]) -> list[str]:
    """Return what should be one value and is several: weights or splits of one name, sources, frozen tensors."""
    found = [
        f"{fact.name}: {plural(len(fact.values), 'value')}"
        for fact in [*_weights(conditions), *_splits(conditions)]
        if len(fact.values) > 1
    ]
    origins = [origin for condition in conditions for origin in _origins(condition)]
    if len({origin.sources_sha256 for origin in origins}) > 1:
        found.append("the trials ran different sources")
    changed = sum(origin.frozen_sha256_before != origin.frozen_sha256_after for origin in origins)
    if changed:
        found.append(f"frozen tensors changed in {plural(changed, 'trial')}")
    return found


def _weights(conditions: Sequence[Condition]) -> list[Fact]:
    return _by_name(conditions, "Weights of {}", lambda condition: condition.setting.backbone, "weights_sha256")


def _splits(conditions: Sequence[Condition]) -> list[Fact]:
    return _by_name(conditions, "Split of {}", lambda condition: condition.setting.dataset, "split_sha256")


def _by_name(
    conditions: Sequence[Condition], title: str, name_of: Callable[[Condition], str], field: str
) -> list[Fact]:
    values: dict[str, list[str]] = {}
    for condition in conditions:
        for origin in _origins(condition):
            values.setdefault(name_of(condition), []).append(getattr(origin, field))
    return [Fact(title.format(name), _counted(hashes)) for name, hashes in values.items()]


def _origins(condition: Condition) -> list[Provenance]:
    seeds: tuple[SeedResult, ...] = condition.completed
    return [seed.result.provenance for seed in seeds if seed.result.provenance is not None]


def _counted(values: Sequence[str]) -> tuple[tuple[str, int], ...]:
    return tuple((value, values.count(value)) for value in dict.fromkeys(values))
