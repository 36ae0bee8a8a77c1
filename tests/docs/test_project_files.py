"""The files that other programs read: GitHub's forms, pre-commit's hooks."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))

# GitHub's syntax: docs.github.com/communities/using-templates-to-encourage-useful-issues-and-pull-requests
KINDS = {"textarea", "input", "dropdown", "checkboxes", "markdown"}


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.stem)
def test_form_is_githubs_when_read(form: Path) -> None:
    document: dict[str, Any] = yaml.safe_load(form.read_text())
    assert set(document) == {"name", "description", "body"}
    assert {part["type"] for part in document["body"]} <= KINDS
    assert all(part["attributes"]["label"] for part in document["body"])
    names = [part["id"] for part in document["body"]]
    assert len(set(names)) == len(names)


def test_hooks_run_what_make_check_runs() -> None:
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    makefile = (ROOT / "Makefile").read_text()
    check = makefile.split("check: install")[1].split("\n\n")[0]
    programs = {Path(hook["entry"].split()[0]).name for hook in local["hooks"]}
    assert local["repo"] == "local"
    assert programs == {line.split()[0].removeprefix("$(BIN)/") for line in check.splitlines()[1:]}


def test_workflow_runs_targets_that_the_makefile_has() -> None:
    workflow: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / "checks.yml").read_text())
    runs = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    targets = {word for run in runs if run.startswith("make ") for word in run.split()[1:]}
    makefile = (ROOT / "Makefile").read_text()
    assert ".ci/run" in runs and targets
    assert [target for target in targets if f"\n{target}:" not in makefile] == []


def test_versions_agree_when_a_file_names_one() -> None:
    import tomllib

    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == version
    assert f"## {version}\n" in (ROOT / "CHANGELOG.md").read_text()
    assert citation["cff-version"] and citation["authors"] and citation["title"]


def test_help_lists_every_target_when_asked() -> None:
    command = ["make", "--no-print-directory", "help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    (phony,) = [line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith(".PHONY:")]
    assert {line.split()[0] for line in done.stdout.splitlines()} == set(phony.split()[1:])
