"""The pages of the reference that follow from the code: the command line, a study's fields, methods, backbones, data.

Written when the site is built, and not kept in the repository, so that none is older than what it describes.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from benchmark.backbones.contract import backbone_names, find_backbone
from benchmark.methods.contract import Method, find_method, method_names
from benchmark.request import LaunchRequest, TrialRequest
from benchmark.spec import TrainingSpec
from tuning.cli.app import app
from tuning.study_spec import StudySpec

GENERATED = "Made from the code when this site is built."

UNITS = {
    "_seconds": "s",
    "_bytes": "bytes",
    "_images": "images",
    "_pixels": "pixels",
    "image_size": "pixels",
    "fraction": "fraction of 1",
    "label_smoothing": "fraction of 1",
    "dropout": "fraction of 1",
    "drop_path": "fraction of 1",
    "margin": "fraction of 1",
    "parameter_share_below": "fraction of 1",
    "published": "fraction of 1",
    "num_prompts": "tokens",
    "epochs": "epochs",
    "_steps": "steps",
    "flops": "operations",
    "parameters": "parameters",
    "workers_per_trial": "workers",
    "num_workers": "workers",
    "threads_per_worker": "threads",
    "cpus_per_worker": "CPUs",
    "gpus_per_worker": "GPUs",
    "trials_per_pack": "trials",
    "settings": "settings",
    "at_once": "settings",
    "startup": "settings",
    "rank": "channels",
}
"""Units by the end of a field's name; numbers of other names have none, as a learning rate."""


def write_reference_pages(folder: Path) -> list[Path]:
    """Write all generated pages, those alone that have changed, and return their files."""
    pages = {
        "cli.md": command_page(),
        "study.md": study_page(),
        "methods.md": methods_page(),
        "backbones.md": backbones_page(),
        "datasets.md": datasets_page(),
    }
    files = [folder / name for name in pages]
    for file, text in zip(files, pages.values(), strict=True):
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")
    return files


def command_page() -> str:
    """Return every command of the program with its arguments and options."""
    intro = (
        "The program is `adaptertune`, also `python -m tuning`. Exit status: 0 all completed, 1 some trials failed, "
        "2 the request is wrong, 3 something is missing here, 130 interrupted. `--json` prints one JSON document on "
        "stdout and nothing else there; messages go to stderr."
    )
    parts = ["# Command line", f"{GENERATED} {intro}", "## adaptertune", _parameters(typer.main.get_command(app))]
    parts += [_command(words, command) for words, command in commands()]
    return "\n\n".join(part for part in parts if part) + "\n"


def commands() -> Iterator[tuple[str, Any]]:
    """Yield every command with the words that call it, groups before their members."""
    yield from _below(typer.main.get_command(app), "")


def _below(group: Any, words: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        called = f"{words} {name}".strip()
        yield called, command
        if hasattr(command, "commands"):
            yield from _below(command, called)


def _command(words: str, command: Any) -> str:
    parts = [f"## {words}", _plain(command.help), _parameters(command)]
    if command.epilog:
        parts.append(f"```text\n{command.epilog.removeprefix('Example: ')}\n```")
    return "\n\n".join(part for part in parts if part)


def _parameters(command: Any) -> str:
    rows = [_parameter(one) for one in command.params if not getattr(one, "hidden", False)]
    return _table(("argument or option", "default", "meaning"), rows)


def _parameter(one: Any) -> tuple[str, str, str]:
    is_argument = one.param_type_name == "argument"
    name = one.metavar or one.name.upper() if is_argument else ", ".join((*one.opts, *one.secondary_opts))
    takes = "" if is_argument or getattr(one, "is_flag", False) else f" {one.metavar or 'VALUE'}"
    default = one.default
    shown = "" if default is None or default is False or default == [] else f"`{default}`"
    if getattr(one, "required", False):
        shown = "needed"
    return f"`{name}{takes}`", shown, _plain(getattr(one, "help", "") or "")


def study_page() -> str:
    """Return every field of a study's file, and of a single trial's."""
    parts = [
        "# Study and trial files",
        f"{GENERATED} A field without a default is needed. Where several values are allowed, one alone stands for a "
        "list of one. An unknown key is refused, and the nearest known one suggested.",
        "`tuning/studies/study.schema.json` is the same as a JSON Schema, by which editors complete and check a file "
        "that begins with `# yaml-language-server: $schema=` and its path.",
        _model("A study", StudySpec, "the top of the file"),
    ]
    parts += [_model(_title(model), model, where) for model, where in _parts_of(StudySpec)]
    parts.append(_model("training", TrainingSpec, "`training`, or beside a method's options"))
    parts.append(_model("A trial", TrialRequest, "the file of `adaptertune train` and `run_trial`"))
    parts.append(_model("launch", LaunchRequest, "`launch` of a trial"))
    return "\n\n".join(parts) + "\n"


def _parts_of(model: type[BaseModel], path: str = "") -> Iterator[tuple[type[BaseModel], str]]:
    """Yield the models that a model's fields hold, each once, with the path at which it stands first."""
    seen: set[type[BaseModel]] = set()
    waiting = [(model, path)]
    while waiting:
        current, place = waiting.pop(0)
        for name, field in current.model_fields.items():
            for part in _models_in(field.annotation):
                if part not in seen:
                    seen.add(part)
                    inside = f"{place}.{name}".lstrip(".")
                    waiting.append((part, inside))
                    yield part, f"`{inside}`"


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _title(model: type[BaseModel]) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", model.__name__.removesuffix("Spec").removesuffix("Request")).lower()


def _model(title: str, model: type[BaseModel], where: str) -> str:
    rows = [_field(name, field) for name, field in model.model_fields.items()]
    text = _plain(_first_line(model))
    return f"## {title}\n\n{text} Where: {where}.\n\n" + _table(("field", "type", "unit", "default", "meaning"), rows)


def _field(name: str, field: FieldInfo) -> tuple[str, str, str, str, str]:
    return f"`{name}`", _type(field.annotation), unit(name, field.annotation), _default(field), _plain(_meaning(field))


def _meaning(field: FieldInfo) -> str:
    bounds = [f"{symbol} {value}" for symbol, value in _bounds(field)]
    told = field.description or next((_first_line(model) for model in _models_in(field.annotation)), "")
    return " · ".join(part for part in (told, ", ".join(bounds)) if part)


def _first_line(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().partition("\n")[0]


def _bounds(field: FieldInfo) -> Iterator[tuple[str, Any]]:
    symbols = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    for rule in field.metadata:
        yield from ((symbol, getattr(rule, name)) for name, symbol in symbols.items() if hasattr(rule, name))


def unit(name: str, annotation: Any) -> str:
    """Return a number's unit by its name; a dash where it has none, nothing for what is no number."""
    if not {int, float} & set(_leaves(annotation)):
        return ""
    return next((unit for ending, unit in UNITS.items() if name.endswith(ending)), "–")


def _leaves(annotation: Any) -> Iterator[Any]:
    arguments = get_args(annotation)
    if not arguments or get_origin(annotation) is Literal:
        yield from (type(value) for value in arguments) if arguments else (annotation,)
    for argument in arguments if get_origin(annotation) is not Literal else ():
        yield from _leaves(argument)


def _type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return " ".join([_type(arguments[0]), *(f"{symbol} {value}" for symbol, value in _bounds(arguments[1]))])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        named = [_type(one) for one in arguments if one is not type(None)]
        return " or ".join([*dict.fromkeys(named), *(["null"] if type(None) in arguments else [])])
    if origin is list:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"mapping to {_type(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _title(annotation)
    names = {int: "whole number", float: "number", str: "text", bool: "true or false", Any: "value"}
    return names.get(annotation, str(annotation))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined:
        return ""
    if isinstance(value, BaseModel):
        return "its fields' defaults"
    return "`null`" if value is None else f"`{value}`" if value != "" else '`""`'


def methods_page() -> str:
    """Return every method with its source and options."""
    intro = (
        f"{GENERATED} A study names a method, or a mapping of its options in which a list of values spans a grid. "
        "Any training field may stand beside the options."
    )
    return "\n\n".join(["# Methods", intro, *(_method(find_method(name)) for name in method_names())]) + "\n"


def _method(method: Method) -> str:
    facts = [f"{method.title}. Source: {method.source}."]
    if method.size is not None:
        facts.append(f"`match` solves `{method.size}`.")
    options = [_field(name, field) for name, field in method.Options.model_fields.items()]
    table = _table(("option", "type", "unit", "default", "meaning"), options) if options else "No options."
    return "\n\n".join([f"## {method.name}", " ".join(map(_plain, facts)), table])


def backbones_page() -> str:
    """Return every backbone with its facts."""
    rows = []
    for name in backbone_names():
        info = find_backbone(name)
        shape = f"{info.depth} × {info.width}"
        size = f"{info.patch_size_pixels} / {info.image_size_pixels}"
        rows.append((f"`{name}`", shape, size, f"{info.num_parameters:,}", _plain(info.licence_line)))
    intro = (
        f"{GENERATED} Weights come from the Hugging Face hub through timm, or from a file (`backbone.weights`); those "
        "of `vit_nano` are in the package. Parameters are counted without a head."
    )
    heading = ("name", "blocks × width", "patch / image, pixels", "parameters", "terms")
    return "\n\n".join(["# Backbones", intro, _table(heading, rows)]) + "\n"


def datasets_page() -> str:
    """Return every data set with its facts."""
    from benchmark.datasets.contract import dataset_names, find_dataset
    from benchmark.datasets.storage.listing import as_row

    rows = []
    for name in dataset_names():
        row = as_row(find_dataset(name))
        counts = row["num_images"] or {}
        images = " / ".join(f"{count:,}" if isinstance(count, int) else str(count) for count in counts.values())
        rows.append((f"`{name}`", str(row["num_classes"] or ""), images, _plain(str(row["licence"]))))
    intro = (
        f"{GENERATED} `adaptertune data prepare NAME` downloads one and compares checksums; `digits` is in the "
        "package. Your own images: `image_folder:FOLDER`."
    )
    heading = ("name", "classes", "images: train / validation / test", "terms")
    return "\n\n".join(["# Data sets", intro, _table(heading, rows)]) + "\n"


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _plain(text: str | None) -> str:
    """Return a text on one line, without the terminal's markup."""
    return " ".join(re.sub(r"\[/?(?:bold|dim|red|green|yellow)[^\]]*\]", "", text or "").split())
