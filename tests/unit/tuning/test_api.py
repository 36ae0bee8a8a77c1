"""The Python API of studies: what it refuses, and that it takes what the command line takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmark.errors import RequestError
from tuning import api
from tuning.files import output_folder
from tuning.study import load_study, study_of

STUDY: dict[str, Any] = {
    "name": "mine",
    "backbone": "vit_nano",
    "dataset": "digits",
    "method": "head_only",
    "seed": [0],
}


def test_study_is_the_same_when_given_as_a_mapping(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("{name: mine, backbone: vit_nano, dataset: digits, method: head_only, seed: 0}")
    assert list(study_of(STUDY).trial_specs) == list(load_study(str(file)).trial_specs)


def test_changes_do_what_set_does_when_a_study_is_read() -> None:
    settings = ["seed=[3]", "training.epochs=2", "claims=[]"]
    changes = {"seed": [3], "training.epochs": 2, "claims": []}
    assert load_study("demo", changes=changes).spec == load_study("demo", settings).spec


@pytest.mark.parametrize(
    ("study", "changes", "options", "said"),
    [
        ("demoo", {}, {}, "Did you mean 'demo'"),
        ("demo", {"training.epoch": 3}, {}, "training.epoch"),
        ({**STUDY, "sede": 1}, {}, {}, "Did you mean 'seed'"),
        (STUDY, {"seed": 1}, {}, "Write the values into the mapping"),
        (STUDY, {}, {"address": "ray://head"}, "submit"),
    ],
)
def test_study_is_refused_when_it_is_wrong(
    study: Any, changes: dict[str, Any], options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(RequestError, match=said):
        api.run_study(study, changes, output=tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


def test_results_are_refused_when_no_store_is_there(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="has no results of this study"):
        api.load_results("demo", output=tmp_path)


def test_output_is_the_environments_when_none_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ADAPTERTUNE_OUTPUT", str(tmp_path))
    assert (output_folder(), output_folder("other")) == (tmp_path, Path("other"))
    monkeypatch.delenv("ADAPTERTUNE_OUTPUT")
    assert output_folder() == Path("adaptertune-output")
