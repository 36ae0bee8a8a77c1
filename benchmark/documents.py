"""Reads YAML and turns what pydantic refuses into errors that say where, what, and what instead."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from benchmark.errors import Problem, RequestError, nearest

Model = TypeVar("Model", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """Safe YAML with `1e-3` read as a number, as YAML 1.2 does, and repeated keys refused."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping; a key given twice is an error, since one of the values would be lost in silence."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, list | dict) or key in seen:
                raise yaml.MarkedYAMLError(problem=f"key {key!r} is given twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def parse_yaml(text: str, where: str) -> Any:
    """Parse one YAML document.

    Raises:
        RequestError: It is not YAML, or a key is given twice; the message has the line.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 -- a subclass of SafeLoader
    except yaml.constructor.ConstructorError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        rule = f"line {line} asks for more than text, numbers, lists and mappings, and nothing is made of it: "
        raise RequestError(where, None, rule + (error.problem or ""), "Write the plain value.") from error
    except yaml.YAMLError as error:
        raise RequestError(where, None, f"not readable as YAML: {' '.join(str(error).split())}") from error


def load_yaml(path: Path) -> Any:
    """Read and parse a YAML file.

    Raises:
        RequestError: The file is not there, not text, or not YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(str(path), None, f"the file cannot be read: {error}") from error
    return parse_yaml(text, str(path))


def require_mapping(value: Any, where: str) -> dict[str, Any]:
    """Return `value` when it is a mapping with text keys.

    Raises:
        RequestError: It is not.
    """
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise RequestError(where, value, "must be a mapping of names to values")
    return dict(value)


def validated(model: type[Model], values: Any, where: str, valid_keys: Iterable[str] = ()) -> Model:
    """Validate values against a pydantic model.

    Args:
        model: The model.
        values: What the user gave.
        where: Path of the values, put before each field's path.
        valid_keys: Further keys that an unknown key may have been meant for.

    Raises:
        RequestError: With one problem for each field that is refused.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = [
            _problem(dict(detail), (*_keys_at(model, detail["loc"][:-1]), *valid_keys)).below(where)
            for detail in error.errors()
        ]
        raise RequestError.of(problems) from error


def _keys_at(model: type[BaseModel], path: tuple[int | str, ...]) -> Iterable[str]:
    """Return the keys that are valid in the mapping at `path`."""
    for part in path:
        field = model.model_fields.get(str(part))
        if field is not None:
            model = next(_models_in(field.annotation), model)
    return model.model_fields


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _problem(detail: dict[str, Any], keys: Iterable[str]) -> Problem:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in detail["loc"]).lstrip(".")
    found, kind = detail["input"], detail["type"]
    if kind == "extra_forbidden":
        name = str(detail["loc"][-1])
        return Problem(path, found, "there is no such key", nearest(name, keys))
    if kind == "missing":
        return Problem(path, None, "this key is needed")
    if kind == "literal_error":
        expected = str(detail["ctx"]["expected"])
        return Problem(path, found, f"must be one of {expected}", _nearest_literal(found, expected))
    return Problem(path, found, detail["msg"].removeprefix("Value error, "))


def _nearest_literal(found: object, expected: str) -> str:
    choices = re.findall(r"'([^']+)'", expected)
    hint = nearest(str(found), choices)
    return hint if hint.startswith("Did") else ""
