"""The JSON Schema of a study's YAML file, by which editors complete and check it.

Made from the same models that check a study, method by method. To write the shipped file anew:
`python -m tuning.schema > tuning/studies/study.schema.json`.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from pydantic import BaseModel

from benchmark.backbones.contract import PAPER_BACKBONES, backbone_names
from benchmark.datasets.contract import dataset_names
from benchmark.methods.contract import find_method, method_names
from benchmark.spec import TrainingSpec
from tuning.study_spec import StudySpec

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def study_json_schema() -> dict[str, Any]:
    """Return the schema of a study: `StudySpec`'s, with names listed and each method's own options and training."""
    schema = StudySpec.model_json_schema()
    properties, definitions = schema["properties"], schema["$defs"]
    training = _fields(TrainingSpec, definitions)
    # The bare names are allowed under the protocol `paper` alone; which protocol it is, no editor need know.
    names = {"backbone": (*backbone_names(), *PAPER_BACKBONES), "dataset": dataset_names()}
    for key, valid_names in names.items():
        item = {"anyOf": [{"enum": list(valid_names)}, properties[key]["items"]]}
        properties[key] = _one_or_several(properties[key], item)
    for key in ("seed", "soups"):
        properties[key] = _one_or_several(properties[key], properties[key]["items"])
    properties["method"] = _one_or_several(properties["method"], _any_method(training, definitions))
    properties["training"] |= {"properties": training, "additionalProperties": False}
    protocol_names = _choices(definitions["ProtocolRequest"]["properties"]["name"])
    properties["protocol"] = {
        "description": "how images are presented: a mapping, or its name alone",
        "anyOf": [{"enum": protocol_names}, {"$ref": "#/$defs/ProtocolRequest"}],
    }
    definitions["ResourcesSpec"]["properties"]["by_method"]["propertyNames"] = {"enum": list(method_names())}
    return {"$schema": DIALECT, **schema}


def _any_method(training: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of one entry of `method`: a name, one method with its options, or several with shared ones."""
    names = list(method_names())
    for name in names:
        definitions[f"method {name}"] = _method(name, training, definitions)
    references = [{"$ref": f"#/$defs/method {name}"} for name in names]
    several = {
        "type": "object",
        "description": "several methods with the same options",
        "properties": {"name": {"type": "array", "items": {"enum": names}, "minItems": 1}},
        "required": ["name"],
    }
    return {"anyOf": [{"enum": names}, *references, several]}


def _method(name: str, training: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    method = find_method(name)
    options = _fields(method.Options, definitions)
    spanned = {key: _value_or_list(field) for key, field in (training | options).items()}
    size = method.size_option({})
    budget = {} if size is None else {"match": _value_or_list({"$ref": "#/$defs/MatchSpec"})}
    required = [key for key, field in method.Options.model_fields.items() if field.is_required()]
    needed = [key for key in required if key != size]
    sized = {"anyOf": [{"required": [size]}, {"required": ["match"]}]} if size in required else {}
    return {
        **sized,
        "type": "object",
        "title": method.title,
        "description": f"{method.title} ({method.source}); a list of values spans a grid",
        "properties": {"name": {"const": name}, **spanned, **budget},
        "required": ["name", *needed],
        "additionalProperties": False,
    }


def _fields(model: type[BaseModel], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schemas of a model's fields; what they refer to goes into the definitions."""
    schema = model.model_json_schema()
    definitions.update(schema.get("$defs", {}))
    return dict(schema.get("properties", {}))


def _value_or_list(field: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {key: field[key] for key in ("title", "description", "default") if key in field}
    value = {key: part for key, part in field.items() if key not in told}
    spanned = [{"type": "array", "items": value, "minItems": 1}, {"$ref": "#/$defs/Range"}]
    return {**told, "anyOf": [value, *spanned]}


def _one_or_several(field: dict[str, Any], item: dict[str, Any]) -> dict[str, Any]:
    """Return an array field's schema where one value may stand for a list of one."""
    told: dict[str, Any] = {key: field[key] for key in ("title", "description") if key in field}
    return {**told, "anyOf": [item, {"type": "array", "items": item, "minItems": 1}]}


def _choices(field: dict[str, Any]) -> list[Any]:
    return list(field["enum"]) if "enum" in field else [field["const"]]


def as_text() -> str:
    """Return the schema as the text of `tuning/studies/study.schema.json`."""
    return json.dumps(study_json_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(as_text())
