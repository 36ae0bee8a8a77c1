"""Reads the fenced blocks of the README and of docs/, and runs them page by page, in order, in one folder a page.

An HTML comment in front of a block says what the block is, where it is more than commands or a program:

    <!-- not run: WHY -->        nobody can run it here; listed at the end of `make test-docs`
    <!-- run by: tests/FILE -->  another test runs it
    <!-- file: NAME -->          it is written to this file
    <!-- part of: STUDY -->      keys of a study: checked in the place of those of the shipped study
    <!-- with: A => B -->        before it is run, A is replaced by B: a placeholder, or a smaller size
    <!-- first: COMMAND -->      run before the block
    <!-- fails: STATUS -->       it ends with this exit status
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from tuning.study import shipped_studies, study_of

ROOT = Path(__file__).parents[2]
_GENERATED = {ROOT / line for line in (ROOT / ".gitignore").read_text().split() if line.startswith("docs/")}
_WRITTEN = sorted(set((ROOT / "docs").rglob("*.md")) - _GENERATED)
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *_WRITTEN]
DASHBOARD = "http://127.0.0.1:8265"
TIMEOUT_SECONDS = 600

_COMMENT = re.compile(r"<!-- (not run|run by|file|part of|with|first|fails): (.*?) -->")
_COMMAND = re.compile(r"^(adaptertune|ray|kubectl|sbatch|pip|python|make|rsync|export|torchrun|ssh) ", re.MULTILINE)
LANGUAGES = {"sh", "python", "yaml", "toml", "text", "{toctree}", "{eval-rst}"}


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: Its file.
        line: Of its first fence, from 1.
        language: As it says.
        text: What is between the fences.
        marks: What the comments before it say, by kind.
    """

    page: Path
    line: int
    language: str
    text: str
    marks: Mapping[str, Sequence[str]]

    @property
    def place(self) -> str:
        """The block's file and line."""
        return f"{os.path.relpath(self.page, ROOT)}:{self.line}"

    @property
    def is_left_to_others(self) -> bool:
        """Whether it is not for the runner: output, layout of the site, or marked so."""
        return self.language in ("text", "{toctree}", "{eval-rst}") or bool({"not run", "run by"} & set(self.marks))

    @property
    def names_commands(self) -> bool:
        """Whether a line of it begins as a command does."""
        return _COMMAND.search(self.text) is not None


def blocks_of(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    return list(_blocks(page, page.read_text(encoding="utf-8").splitlines()))


def _blocks(page: Path, lines: list[str]) -> Iterator[Block]:
    marks: dict[str, list[str]] = {}
    start: int | None = None
    for number, line in enumerate(lines):
        if start is not None and line == "```":
            text = "\n".join(lines[start + 1 : number]) + "\n"
            yield Block(page, start + 1, lines[start][3:].split(" ")[0], text, marks)
            start, marks = None, {}
        elif start is None and line.startswith("```"):
            start = number
        elif start is None and (comment := _COMMENT.fullmatch(line)):
            marks.setdefault(comment[1], []).append(comment[2])
        elif start is None and line:
            marks = {}


def run_page(page: Path, folder: Path, dashboard: str | None = None) -> int:
    """Run the blocks of a page in a folder and return how many ran.

    Args:
        page: The page.
        folder: An empty one.
        dashboard: Where a Ray head stands, for the pages that speak to one.
    """
    blocks = [block for block in blocks_of(page) if not block.is_left_to_others]
    environment = _prepared(folder)
    called = "".join(block.text for block in blocks if block.language == "sh")
    for block in blocks:
        _run(block, folder, environment, called, dashboard)
    return len(blocks)


def _run(block: Block, folder: Path, environment: dict[str, str], called: str, dashboard: str | None) -> None:
    text = block.text if dashboard is None else block.text.replace(DASHBOARD, dashboard)
    for replacement in block.marks.get("with", ()):
        old, _, new = replacement.partition(" => ")
        assert old in text, f"{block.place}: there is no {old!r} to replace"
        text = text.replace(old, new)
    for command in block.marks.get("first", ()):
        _succeed(block, ["bash", "-euc", command], folder, environment)
    if "file" in block.marks:
        (name,) = block.marks["file"]
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
        if name.endswith(".yaml") and name not in called:
            _succeed(block, ["adaptertune", "plan", name], folder, environment)
    elif "part of" in block.marks:
        (study,) = block.marks["part of"]
        study_of({**yaml.safe_load(shipped_studies()[study].read_text()), **yaml.safe_load(text)})
    elif block.language == "sh":
        _succeed(block, ["bash", "-euc", text], folder, environment)
    elif block.language == "python":
        _succeed(block, ["python", "-c", text], folder, environment)
    else:
        raise AssertionError(f"{block.place}: a block of {block.language} says neither its file nor what it is part of")


def _succeed(block: Block, command: list[str], folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    expected = int(block.marks.get("fails", ["0"])[0])
    assert done.returncode == expected, f"{block.place}: exit status {done.returncode}\n{done.stdout}\n{done.stderr}"


def _prepared(folder: Path) -> dict[str, str]:
    """Return an environment in which `adaptertune` is this checkout's, and packages may be put into `site`."""
    programs = folder / "bin"
    programs.mkdir()
    scripts = {"adaptertune": "-m tuning", "draw-shapes": f"{ROOT / 'tests' / 'docs' / 'shapes.py'}"}
    for name, arguments in scripts.items():
        (programs / name).write_text(f'#!/usr/bin/env bash\nexec {sys.executable} {arguments} "$@"\n')
        (programs / name).chmod(0o755)
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
    python_path = os.pathsep.join([str(folder / "site"), str(ROOT)])
    settings = {"PATH": path, "PYTHONPATH": python_path, "RAY_AUTH_MODE": "disabled", "COLUMNS": "120"}
    environment = {**os.environ, **settings}
    environment.pop("ADAPTERTUNE_OUTPUT", None)
    return environment


def commands_named() -> Iterator[tuple[str, list[str]]]:
    """Yield every `adaptertune …` that a page names without running it, with its place and its words."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in blocks_of(page):
            lines = block.text.replace("\\\n", " ").splitlines() if block.is_left_to_others else []
            yield from ((block.place, _words(line)) for line in lines if line.startswith("adaptertune "))
        prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        for span in re.findall(r"`(adaptertune [^`]+)`", prose):
            yield str(page.relative_to(ROOT)), _words(" ".join(span.split()))


def _words(line: str) -> list[str]:
    """Return the words after the program's name; prose may hold an apostrophe, which is no quote there."""
    try:
        return shlex.split(line, comments=True)[1:]
    except ValueError:
        return line.split()[1:]
