"""`adaptertune list`: what there is, with sources and licences."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from benchmark.errors import AdapterTuneError
from tuning.cli.output import AsJson, console, print_json

if TYPE_CHECKING:
    from tuning.study import StudySpec

EXAMPLE = "Example: adaptertune list methods"


def list_members(
    kind: Annotated[
        Literal["methods", "backbones", "datasets", "studies"],
        typer.Argument(metavar="methods|backbones|datasets|studies", help="What to list."),
    ],
    as_json: AsJson = False,
) -> int:
    """List what there is, with sources and licences."""
    rows = _LISTERS[kind]()
    if as_json:
        print_json({kind: rows})
        return 0
    columns = _COLUMNS_FOR_PEOPLE.get(kind, tuple(rows[0]))
    table = Table(box=None)
    for column in columns:
        table.add_column(column.replace("_", " "), no_wrap=column == "name", overflow="fold")
    for row in rows:
        table.add_row(*(_as_text(row[column]) for column in columns))
    console.print(table)
    for text in _remarks(rows, _BELOW_TABLE.get(kind, ())):
        console.print(text, style="dim", soft_wrap=True)
    return 0


def _remarks(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> list[str]:
    """Return every distinct text of long columns, each once, with the names that it is about."""
    names: dict[str, list[str]] = {}
    for row in rows:
        for column in columns:
            if isinstance(row[column], str) and row[column]:
                names.setdefault(f"{column}: {row[column]}", []).append(row["name"])
    return [f"{text}\n    {', '.join(members)}" for text, members in names.items()]


def _methods() -> list[dict[str, Any]]:
    from benchmark.methods.contract import find_method, method_names

    methods = [find_method(name) for name in method_names()]
    return [
        {
            "name": method.name,
            "title": method.title,
            "options": list(method.Options.model_fields),
            "source": method.source,
            "revision": method.revision,
        }
        for method in methods
    ]


def _backbones() -> list[dict[str, Any]]:
    from benchmark.backbones.contract import backbone_names, find_backbone

    backbones = [find_backbone(name) for name in backbone_names()]
    return [
        {
            "name": info.name,
            "width": info.width,
            "depth": info.depth,
            "patch_size_pixels": info.patch_size_pixels,
            "image_size_pixels": info.image_size_pixels,
            "num_parameters": info.num_parameters,
            "licence": info.licence_line,
            "is_non_commercial": info.is_non_commercial,
            "note": info.note,
            "source": info.source,
        }
        for info in backbones
    ]


def _datasets() -> list[dict[str, Any]]:
    from benchmark.datasets.contract import dataset_names, find_dataset
    from benchmark.datasets.storage.listing import as_row

    return [as_row(find_dataset(name)) for name in dataset_names()]


def _studies() -> list[dict[str, Any]]:
    from tuning.study import read_study_spec, shipped_studies

    specs = {name: read_study_spec(name) for name in shipped_studies()}
    return [{"name": name, "question": spec.question} | _expanded(spec) for name, spec in specs.items()]


def _expanded(spec: StudySpec) -> dict[str, Any]:
    """Return how many trials a study has, or what it needs first: some name data or weights that are not here yet."""
    from tuning.study import expand

    try:
        return {"num_trials": len(expand(spec).trials), "needs": ""}
    except AdapterTuneError as error:
        return {"num_trials": None, "needs": str(error)}


_LISTERS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "methods": _methods,
    "backbones": _backbones,
    "datasets": _datasets,
    "studies": _studies,
}


_COLUMNS_FOR_PEOPLE = {
    "backbones": ("name", "width", "depth", "patch_size_pixels", "image_size_pixels", "num_parameters", "licence"),
    "datasets": ("name", "num_classes", "num_images", "checksum", "licence"),
    "studies": ("name", "num_trials", "question"),
}
"""Where a terminal is too narrow for all of them; `--json` has the rest."""

_BELOW_TABLE = {"backbones": ("note", "source"), "studies": ("needs",)}
"""Long texts that many rows share; what `is_non_commercial` says, the licence says too."""


def _as_text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, dict):
        return ", ".join(f"{key} {amount}" for key, amount in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)
