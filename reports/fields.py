"""Reads the JSON of a trial's spec: the fields a reader or a claim may name, and what two trials share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmark.spec import Scalar, as_canonical_json

SpecJson = Mapping[str, Any]

RANDOM_WEIGHTS = "random weights"
"""Stands wherever a backbone that was not pretrained is named."""

NOT_IN_IDENTITY = ("weights_file", "assumed_from")
"""The fields of a backbone that do not enter a trial's identity."""


NOT_IN_METHOD_IDENTITY = ("defaults", "match")
"""The fields of a method that do not enter a trial's identity; the defaults stand among the options here."""


@dataclass(frozen=True)
class Setting:
    """What must be equal for two conditions to be compared: backbone, data set and protocol, in full.

    Attributes:
        backbone: The backbone's name.
        dataset: The data set's name.
        key: Canonical JSON of the three specs.
        has_random_weights: Whether the backbone was not pretrained.
    """

    backbone: str
    dataset: str
    key: str
    has_random_weights: bool = False

    @property
    def backbone_title(self) -> str:
        """The backbone as headings name it."""
        return f"{self.backbone}, {RANDOM_WEIGHTS}" if self.has_random_weights else self.backbone

    @property
    def name(self) -> str:
        """The setting as a reader names it."""
        return f"{self.backbone_title} × {self.dataset}"


def setting_of(spec: SpecJson) -> Setting:
    """Return the setting that a trial belongs to."""
    backbone = without_files(spec.get("backbone", {}))
    shared = {"backbone": backbone, "dataset": spec.get("dataset", {}), "protocol": spec.get("protocol", {})}
    names = str(backbone.get("name", "unknown")), str(shared["dataset"].get("name", "unknown"))
    return Setting(*names, as_canonical_json(shared), has_random_weights(spec))


def soup_of(spec: SpecJson) -> SpecJson | None:
    """Return which trials a weight soup averages, and how; none for a trial that trains."""
    soup: SpecJson | None = spec.get("soup")
    return soup


def has_random_weights(spec: SpecJson) -> bool:
    """Return whether a trial's backbone was not pretrained."""
    return spec.get("backbone", {}).get("weights") == "random"


def without_files(part: SpecJson) -> dict[str, Any]:
    """Return a spec part without the fields that do not enter a trial's identity."""
    return {name: value for name, value in part.items() if name not in NOT_IN_IDENTITY}


def options_of(spec: SpecJson) -> dict[str, Scalar]:
    """Return the method's own options by the value in force: those that keep a default added later, too."""
    method = spec.get("method", {})
    return {**(method.get("defaults") or {}), **(method.get("options") or {})}


def method_of(spec: SpecJson) -> str:
    """Return the method's public name."""
    return str(spec.get("method", {}).get("name", "unknown"))


def selectable_fields(spec: SpecJson) -> dict[str, Scalar]:
    """Return the fields a claim may name, each with the trial's value."""
    training: dict[str, Scalar] = dict(spec.get("training", {}))
    names = {part: spec.get(part, {}).get("name") for part in ("backbone", "dataset", "method", "protocol")}
    return training | options_of(spec) | names


def family_key(spec: SpecJson, option: str) -> str:
    """Return what is equal among conditions that differ in one method option alone."""
    others = {name: value for name, value in options_of(spec).items() if name != option}
    rest = {"setting": setting_of(spec).key, "method": _method_with(spec, others), "training": spec.get("training", {})}
    return as_canonical_json(rest)


def recipe_key(spec: SpecJson) -> str:
    """Return what is equal among conditions that differ in backbone and data set alone."""
    method = _method_with(spec, options_of(spec))
    rest = {"method": method, "training": spec.get("training", {}), "protocol": spec.get("protocol", {})}
    return as_canonical_json(rest)


def _method_with(spec: SpecJson, options: Mapping[str, Scalar]) -> dict[str, Any]:
    """Return a method's identity with the given options."""
    method = {name: value for name, value in spec.get("method", {}).items() if name not in NOT_IN_METHOD_IDENTITY}
    return method | {"options": dict(options)}


def same_value(left: object, right: object) -> bool:
    """Return whether two scalars are equal, holding `true` and 1 apart."""
    return isinstance(left, bool) == isinstance(right, bool) and left == right
