"""Where a study's numbers come from: the distinct values that its completed trials stored, and what does not agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmark.result import Provenance
from reports.conditions import Condition, SeedResult
from reports.formatting import plural

NON_COMMERCIAL = "non-commercial"
"""How a result's licence says that its weights must not be used commercially."""


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
    return [*facts, *_licences(conditions), *_assumed_tags(conditions), *_weights(conditions), *_splits(conditions)]


def cautions(conditions: Sequence[Condition]) -> list[tuple[str, str]]:
    """Return what a reader must know of the backbones before using a number: name of the matter, backbones."""
    random = [condition.setting.backbone for condition in conditions if condition.setting.has_random_weights]
    restricted = [
        condition.setting.backbone
        for condition in conditions
        if any(NON_COMMERCIAL in (origin.backbone_licence or "") for origin in _origins(condition))
    ]
    assumed = [condition.setting.backbone for condition in conditions if _assumed_from(condition)]
    matters = {"Random weights": random, "Non-commercial weights": restricted, "Assumed tags": assumed}
    return [(matter, ", ".join(dict.fromkeys(names))) for matter, names in matters.items() if names]


def package_versions(conditions: Sequence[Condition]) -> list[Fact]:
    """Return every package's version; a package with several has several values."""
    origins = [origin for condition in conditions for origin in _origins(condition)]
    names = sorted({name for origin in origins for name in origin.packages})
    return [Fact(name, _counted([origin.packages.get(name, "absent") for origin in origins])) for name in names]


def disagreements(conditions: Sequence[Condition]) -> list[str]:
    """Return what should be one value and is several: weights or splits of one name, sources, frozen tensors."""
    found = [
        f"{fact.name}: {plural(len(fact.values), 'value')}"
        for fact in [*_weights(_pretrained(conditions)), *_splits(conditions)]
        if len(fact.values) > 1
    ]
    origins = [origin for condition in conditions for origin in _origins(condition)]
    if len({origin.sources_sha256 for origin in origins}) > 1:
        found.append("the trials ran different sources")
    changed = sum(origin.frozen_sha256_before != origin.frozen_sha256_after for origin in origins)
    if changed:
        found.append(f"frozen tensors changed in {plural(changed, 'trial')}")
    return found


def _pretrained(conditions: Sequence[Condition]) -> list[Condition]:
    """Leave out random weights, which follow the seed and so differ by design."""
    return [condition for condition in conditions if not condition.setting.has_random_weights]


def _weights(conditions: Sequence[Condition]) -> list[Fact]:
    """Return a fact for every backbone and place its weights came from; the checksum is before any resampling."""
    groups: dict[tuple[str, ...], list[Condition]] = {}
    for condition in conditions:
        backbone = condition.spec.get("backbone", {})
        source = tuple(str(backbone.get(name)) for name in ("name", "weights", "weights_sha256"))
        groups.setdefault(source, []).append(condition)
    return [
        fact
        for members in groups.values()
        for fact in _by_name(
            members, "Weights of {}", lambda condition: condition.setting.backbone_title, lambda o: o.weights_sha256
        )
    ]


def _licences(conditions: Sequence[Condition]) -> list[Fact]:
    return _by_name(
        conditions, "Licence of {}", lambda condition: condition.setting.backbone, lambda o: o.backbone_licence
    )


def _assumed_tags(conditions: Sequence[Condition]) -> list[Fact]:
    """Return the tags that the protocol `paper` assumed for the paper's bare names."""
    tags: dict[str, list[str]] = {}
    for condition in conditions:
        if bare := _assumed_from(condition):
            tags.setdefault(bare, []).extend([condition.setting.backbone] * len(condition.completed))
    return [Fact(f"Tag of {bare}, assumed", _counted(names)) for bare, names in tags.items()]


def _assumed_from(condition: Condition) -> str | None:
    """Return the paper's bare name where the tag was assumed."""
    bare = condition.spec.get("backbone", {}).get("assumed_from")
    return str(bare) if bare else None


def _splits(conditions: Sequence[Condition]) -> list[Fact]:
    return _by_name(conditions, "Split of {}", lambda condition: condition.setting.dataset, lambda o: o.split_sha256)


def _by_name(
    conditions: Sequence[Condition],
    title: str,
    name_of: Callable[[Condition], str],
    read: Callable[[Provenance], str | None],
) -> list[Fact]:
    """Return a fact for every name with the values its trials stored; one that stored none has none."""
    values: dict[str, list[str]] = {}
    for condition in conditions:
        for origin in _origins(condition):
            value = read(origin)
            if value is not None:
                values.setdefault(name_of(condition), []).append(value)
    return [Fact(title.format(name), _counted(found)) for name, found in values.items()]


def _origins(condition: Condition) -> list[Provenance]:
    seeds: tuple[SeedResult, ...] = condition.completed
    return [seed.result.provenance for seed in seeds if seed.result.provenance is not None]


def _counted(values: Sequence[str]) -> tuple[tuple[str, int], ...]:
    return tuple((value, values.count(value)) for value in dict.fromkeys(values))
