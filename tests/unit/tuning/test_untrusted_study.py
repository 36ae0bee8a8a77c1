"""Guards that a study's file is data: what it names runs no code, leaves no folder, and is refused where it could."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from benchmark.errors import RequestError
from benchmark.tracking import schema
from tuning.cli.app import run
from tuning.study import read_study_spec

STUDY = {"name": "plain", "backbone": "vit_nano", "dataset": "digits", "method": "head_only", "seed": [0]}

UNFIT_NAMES = [
    "../../x",
    "/etc/x",
    "a/b",
    "..",
    ".hidden",
    "-rf",
    "two\nlines",
    "line\n",
    "it's",
    'say "x"',
    "<script>alert(1)</script>",
    "$(touch ran)",
    "`touch ran`",
    "a;b",
    "nul\0",
    "a" * 65,
    "",
]


def written(folder: Path, **parts: object) -> str:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**STUDY, **parts}), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", UNFIT_NAMES)
def test_study_is_refused_when_its_name_is_unfit_for_files(name: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"name: found .* files are named after it"):
        read_study_spec(written(tmp_path, name=name))


@pytest.mark.parametrize("command", ["run", "status", "plan"])
def test_nothing_is_written_when_a_name_leads_outside(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, name="../../outside")
    output = [] if command == "plan" else ["--output", str(tmp_path / "a" / "output")]
    assert run([command, file, *output]) == 2
    assert "files are named after it" in " ".join(capsys.readouterr().err.split())
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["study.yaml"]


def test_report_is_refused_when_it_names_a_path_outside(tmp_path: Path) -> None:
    assert run(["report", "../../x", "--output", str(tmp_path / "output")]) == 2
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("tag", ["python/object/apply:os.mkdir", "python/object/new:os.mkdir", "python/name:os.mkdir"])
def test_code_does_not_run_when_yaml_holds_a_python_tag(tag: str, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(f"name: plain\nquestion: !!{tag} ['{tmp_path}/ran']\n", encoding="utf-8")
    with pytest.raises(RequestError, match=r"study\.yaml: line 2 asks for more than text, numbers, lists and mappings"):
        read_study_spec(str(path))
    assert not (tmp_path / "ran").exists()


def test_code_does_not_run_when_a_setting_holds_a_python_tag(tmp_path: Path) -> None:
    setting = f"question=!!python/object/apply:os.mkdir ['{tmp_path}/ran']"
    with pytest.raises(RequestError, match="--set: line 1 asks for more"):
        read_study_spec(written(tmp_path), [setting])
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", [one for one in UNFIT_NAMES if one])
def test_artifacts_stay_in_their_folder_when_a_store_is_given_any_name(name: str) -> None:
    # Tracking may be written by others than `run`, which refuses such names before.
    folder = schema.folder_name(name)
    assert Path("/store", folder).resolve().parent == Path("/store")
    assert folder.isprintable() and not set(folder) & set("/\\'\"<>$`;")
