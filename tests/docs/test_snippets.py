"""Every command and program that the README and docs/ show is run, or says why it is not."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.ray_head import MISSING_FOR_THE_DASHBOARD, ray_head
from tests.docs.snippets import DASHBOARD, LANGUAGES, PAGES, ROOT, Block, blocks_of, commands_named, run_page

ALL = [block for page in PAGES for block in blocks_of(page)]
RUN = [page for page in PAGES if any(not block.is_left_to_others for block in blocks_of(page))]
NEED_A_HEAD = [page for page in RUN if any(DASHBOARD in block.text for block in blocks_of(page))]

MOST_NOT_RUN = 16
"""Of all blocks. Who must raise it should look for a way to run the new one."""


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.docs
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", [page for page in RUN if page.stem != "cluster"], ids=name_of)
def test_blocks_succeed_when_run_as_printed(page: Path, tmp_path: Path) -> None:
    assert run_page(page, tmp_path) > 0


@pytest.mark.docs
@pytest.mark.timeout(1200)
@pytest.mark.skipif(bool(MISSING_FOR_THE_DASHBOARD), reason=f"ray[default] is needed: {MISSING_FOR_THE_DASHBOARD}")
def test_cluster_blocks_succeed_when_a_head_is_there(tmp_path: Path) -> None:
    (page,) = [page for page in RUN if page.stem == "cluster"]
    with ray_head() as head:
        assert run_page(page, tmp_path, head.dashboard) > 0
    assert (tmp_path / "demo-aws" / "aws.yaml").is_file()


@pytest.mark.docs
def test_blocks_that_are_not_run_are_listed_when_the_tests_end(note_left_out: Callable[[str, str], None]) -> None:
    for block in left_out():
        note_left_out(block.place, block.marks["not run"][0])


def left_out() -> list[Block]:
    return [block for block in ALL if "not run" in block.marks]


def test_few_blocks_are_not_run_and_each_says_why() -> None:
    assert 0 < len(left_out()) <= MOST_NOT_RUN
    assert [block.place for block in left_out() if len(block.marks["not run"][0].split()) < 4] == []


def test_block_with_commands_is_run_or_says_why_not() -> None:
    shown = [block for block in ALL if block.language == "text" and block.names_commands]
    assert [block.place for block in shown if not {"not run", "run by"} & set(block.marks)] == []


def test_language_is_one_that_the_runner_knows() -> None:
    assert [block.place for block in ALL if block.language not in LANGUAGES] == []


def test_tests_are_there_when_a_page_says_that_they_run_a_block() -> None:
    named = [name for block in ALL for name in block.marks.get("run by", ())]
    assert named and [name for name in named if not (ROOT / name).is_file()] == []


def test_command_and_options_are_known_when_a_page_names_them() -> None:
    wrong = [(place, words) for place, words in commands_named() if not is_known(words)]
    assert wrong == []


def is_known(words: list[str]) -> bool:
    """Return whether a command line begins with a command of the program and has only its options."""
    import typer

    from tuning.cli.app import app

    command: Any = typer.main.get_command(app)
    rest = list(words)
    while rest and rest[0] in getattr(command, "commands", {}):
        command = command.commands[rest.pop(0)]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    asked = {word.partition("=")[0] for word in words if word.startswith("--")}
    return (not hasattr(command, "commands") or not rest or rest[0].startswith("--")) and asked <= known | {"--help"}


def test_linked_files_are_there_when_a_page_names_them() -> None:
    pattern = re.compile(r"`((?:docs|tests|launch|tuning|benchmark|reports)/[\w./-]+\.\w+|launch/Containerfile)`")
    named = {(name_of(page), path) for page in PAGES for path in pattern.findall(page.read_text())}
    assert named and [one for one in sorted(named) if not (ROOT / one[1]).exists() and "NAME" not in one[1]] == []
