"""Reads what is published about AdapterTune (`published.yaml`): figures with their source, and which are unknown."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from benchmark.spec import Scalar
from reports.fields import SpecJson, same_value, selectable_fields

FILE = Path(__file__).parent / "published.yaml"

Pairs = Literal["core", "all"]
Quantity = Literal["mean_gain_over_head", "wins_over_head", "wins_over_full", "trained_share_of_full"]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PublishedRow(_Entry):
    """A row of the paper's tables, by the fields that select its conditions."""

    select: dict[str, Scalar]
    where: str = "the comparison of methods"


class PublishedCell(_Entry):
    """One known cell of the paper's tables."""

    backbone: str = Field(description="bare name")
    dataset: str
    select: dict[str, Scalar]
    top1: float = Field(ge=0, le=1)
    where: str


class StatedFigure(_Entry):
    """A figure over many pairs of data set and backbone that the paper states."""

    quantity: Quantity
    pairs: Pairs
    value: float
    where: str


class BestListed(_Entry):
    """Best scores by data set, of no known row or backbone."""

    where: str
    top1: dict[str, float]


class PublishedRange(_Entry):
    """The lowest and highest score over repeats, by data set, of another published run."""

    backbone: str
    method: str
    where: str
    top1: dict[str, tuple[float, float]]


class Published(_Entry):
    """All that is known of the paper's figures."""

    paper: str
    core_datasets: list[str]
    datasets: list[str]
    backbones: list[str]
    rows: list[PublishedRow]
    cells: list[PublishedCell]
    stated: list[StatedFigure]
    best_listed: BestListed
    ranges: list[PublishedRange]

    def row_of(self, spec: SpecJson) -> PublishedRow | None:
        """Return the row of the paper's tables that a trial's condition would stand in."""
        if bare_backbone(spec) not in self.backbones or spec["dataset"]["name"] not in self.datasets:
            return None
        return next((row for row in self.rows if selects(row.select, spec)), None)

    def cell_of(self, spec: SpecJson) -> PublishedCell | None:
        """Return the known published figure of a trial's condition."""
        where = bare_backbone(spec), spec["dataset"]["name"]
        cells = (cell for cell in self.cells if (cell.backbone, cell.dataset) == where)
        return next((cell for cell in cells if selects(cell.select, spec)), None)

    def pairs(self, which: Pairs) -> list[tuple[str, str]]:
        """Return the (bare backbone, data set) pairs that a stated figure covers."""
        datasets = self.core_datasets if which == "core" else self.datasets
        return [(backbone, dataset) for backbone in self.backbones for dataset in datasets]


@functools.cache
def published() -> Published:
    """Return the shipped figures."""
    return Published.model_validate(yaml.safe_load(FILE.read_text(encoding="utf-8")))


def bare_backbone(spec: SpecJson) -> str:
    """Return a backbone's name as the paper gives it, without its pretrained tag."""
    backbone: Mapping[str, Any] = spec.get("backbone", {})
    return str(backbone.get("assumed_from") or backbone.get("name", "")).partition(".")[0]


def selects(selector: Mapping[str, Scalar], spec: SpecJson) -> bool:
    """Return whether a trial has every field of a selector."""
    fields = selectable_fields(spec)
    return all(name in fields and same_value(fields[name], value) for name, value in selector.items())
