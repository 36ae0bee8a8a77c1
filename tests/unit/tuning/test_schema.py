"""Guards the schema by which editors check a study: it is up to date, and says the same as the suite itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest

import tuning
from benchmark.documents import load_yaml
from tuning.schema import as_text, study_json_schema
from tuning.study import shipped_studies

COMMITTED = Path(tuning.__file__).parent / "studies" / "study.schema.json"
STUDY = {"name": "tiny", "backbone": "vit_nano", "dataset": "digits", "method": "head_only", "seed": 0}


@pytest.fixture(scope="module")
def validator() -> jsonschema.protocols.Validator:
    return jsonschema.Draft202012Validator(study_json_schema())


def test_committed_schema_is_up_to_date() -> None:
    regenerate = "run: python -m tuning.schema > tuning/studies/study.schema.json"
    assert COMMITTED.read_text(encoding="utf-8") == as_text(), regenerate


def test_schema_is_one_when_checked_against_its_dialect() -> None:
    jsonschema.Draft202012Validator.check_schema(study_json_schema())


@pytest.mark.parametrize("path", shipped_studies().values(), ids=lambda path: path.stem)
def test_shipped_study_passes_and_names_the_schema(path: Path, validator: jsonschema.protocols.Validator) -> None:
    assert list(validator.iter_errors(load_yaml(path))) == []
    assert path.read_text().startswith("# yaml-language-server: $schema=study.schema.json\n")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"seed": [0, 1]}, id="several seeds"),
        pytest.param({"soups": "uniform"}, id="one soup"),
        pytest.param({"soups": ["uniform", "greedy"]}, id="several soups"),
        pytest.param({"backbone": [{"name": "vit_nano", "weights": "random"}]}, id="backbone as mapping"),
        pytest.param({"protocol": "fair"}, id="protocol by name"),
        pytest.param({"method": [{"name": "adaptertune", "rank": [1, 2], "learning_rate": 1e-3}]}, id="grid"),
        pytest.param({"method": {"name": ["head_only", "full_finetune"], "epochs": 3}}, id="several methods"),
    ],
)
def test_schema_allows_what_the_suite_allows(change: dict[str, Any], validator: jsonschema.protocols.Validator) -> None:
    assert list(validator.iter_errors({**STUDY, **change})) == []


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"sed": 0}, id="unknown key"),
        pytest.param({"seed": "0"}, id="text as seed"),
        pytest.param({"method": []}, id="no method"),
        pytest.param({"method": "head_onli"}, id="unknown method"),
        pytest.param({"method": {"name": "adaptertune"}}, id="rank missing"),
        pytest.param({"method": {"name": "adaptertune", "rank": 0}}, id="rank 0"),
        pytest.param({"method": {"name": "adaptertune", "rank": []}}, id="empty grid"),
        pytest.param({"method": {"name": "head_only", "rank": 2}}, id="an option of another method"),
        pytest.param({"method": {"name": "adaptertune", "rank": 2, "init": "zeros"}}, id="unknown init"),
        pytest.param({"training": {"epoch": 3}}, id="unknown training key"),
        pytest.param({"dataset": "digit"}, id="unknown data set"),
        pytest.param({"protocol": "fairr"}, id="unknown protocol"),
        pytest.param({"resources": {"by_method": {"adaptertun": {}}}}, id="unknown method in by_method"),
    ],
)
def test_schema_refuses_what_the_suite_refuses(
    change: dict[str, Any], validator: jsonschema.protocols.Validator
) -> None:
    assert list(validator.iter_errors({**STUDY, **change})) != []
