"""The files that other programs read: GitHub's forms, pre-commit's hooks."""

from __future__ import annotations

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
