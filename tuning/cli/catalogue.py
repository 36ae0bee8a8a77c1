"""`adaptertune list`: what there is, with sources and licences."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from benchmark.errors import AdapterTuneError
from tuning.cli.output import AsJson, console, print_json

if TYPE_CHECKING:
    from tuning.study_spec import StudySpec

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
    console.print(_as_table(kind, rows))
    for text in _remarks(rows, _BELOW_TABLE.get(kind, ())):
        console.print(text, style="dim", soft_wrap=True)
    if kind in ("backbones", "datasets"):
        console.print("NC: not for commercial use; the licences above say more.", style="dim")
    return 0


def _as_table(kind: str, rows: list[dict[str, Any]]) -> Table:
    """Return the columns that fit 80 characters; names are never cut."""
    columns = _COLUMNS_FOR_PEOPLE[kind]
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in columns:
        table.add_column(heading, no_wrap=heading not in ("question", "source"))
    for row in rows:
        table.add_row(*(_as_text(show(row)) for show in columns.values()))
    return table


def _remarks(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> list[str]:
    """Return every distinct text of long columns, each once, with the names that it is about."""
    names: dict[str, list[str]] = {}
    for row in rows:
        for column in columns:
            if text := _as_text(row[column]):
                names.setdefault(f"{column}: {text}", []).append(row["name"])
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
        return {"num_trials": expand(spec).num_trials, "needs": ""}
    except AdapterTuneError as error:
        return {"num_trials": None, "needs": str(error)}


_LISTERS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "methods": _methods,
    "backbones": _backbones,
    "datasets": _datasets,
    "studies": _studies,
}


def _field(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda row: row[name]


def _counts(row: dict[str, Any]) -> str | None:
    counts = row["num_images"]
    return " / ".join(str(counts[split]) for split in counts) if counts else None


_NOT_COMMERCIAL = re.compile(r"non-commercial|BY-NC|research use only", re.IGNORECASE)


def _checksum(row: dict[str, Any]) -> str:
    """Return the kinds of checksum that a public source states for the files."""
    stated = row["checksum"].values() if isinstance(row["checksum"], dict) else [row["checksum"]]
    return ", ".join(sorted({str(one).partition(":")[0] for one in stated if one})) or "-"


_COLUMNS_FOR_PEOPLE: dict[str, dict[str, Callable[[dict[str, Any]], Any]]] = {
    "methods": {"name": _field("name"), "title": _field("title"), "source": _field("source")},
    "backbones": {
        "name": _field("name"),
        "blocks": lambda row: f"{row['depth']}×{row['width']}",
        "patch/px": lambda row: f"{row['patch_size_pixels']}/{row['image_size_pixels']}",
        "weights": lambda row: f"{row['num_parameters'] / 1e6:.1f} M",
        "terms": lambda row: "NC" if row["is_non_commercial"] else "",
    },
    "datasets": {
        "name": _field("name"),
        "classes": _field("num_classes"),
        "train / validation / test": _counts,
        "checksum": _checksum,
        "terms": lambda row: "NC" if _NOT_COMMERCIAL.search(row["licence"]) else "",
    },
    "studies": {"name": _field("name"), "trials": _field("num_trials"), "question": _field("question")},
}
"""What a table shows of each row, by heading; `--json` has all of it. NC: not for commercial use."""

_BELOW_TABLE = {
    "methods": ("options",),
    "backbones": ("licence", "note", "source"),
    "datasets": ("licence",),
    "studies": ("needs",),
}
"""Long texts that many rows share: each once, with the names that it is about."""


def _as_text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, dict):
        return ", ".join(f"{key} {amount}" for key, amount in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)
