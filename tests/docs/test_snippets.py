"""Runs every command in the `sh` blocks of docs/how-to, and checks the options of those in `text` blocks."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.ray_head import MISSING_FOR_THE_DASHBOARD, ray_head

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "how-to").glob("*.md"))
DASHBOARD = "http://127.0.0.1:8265"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def run_in_shell(commands: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run commands as printed, where `adaptertune` is this checkout's, and stop at the first that fails."""
    program = folder / "bin" / "adaptertune"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/usr/bin/env bash\nexec {sys.executable} -m tuning "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled", "COLUMNS": "120"}
    environment["PATH"] = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    environment.pop("ADAPTERTUNE_OUTPUT", None)
    return subprocess.run(
        ["bash", "-euc", commands],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@pytest.mark.docs
@pytest.mark.parametrize("page", [page for page in PAGES if page.stem != "cluster"], ids=lambda page: page.stem)
def test_commands_succeed_when_run_as_printed(page: Path, tmp_path: Path) -> None:
    printed = blocks(page, "sh")
    assert printed
    done = run_in_shell("\n".join(printed), tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.docs
@pytest.mark.skipif(bool(MISSING_FOR_THE_DASHBOARD), reason=f"ray[default] is needed: {MISSING_FOR_THE_DASHBOARD}")
def test_cluster_commands_succeed_when_a_head_is_there(tmp_path: Path) -> None:
    (page,) = [page for page in PAGES if page.stem == "cluster"]
    commands = "\n".join(blocks(page, "sh"))
    assert commands.count(DASHBOARD) == 2
    with ray_head() as head:
        done = run_in_shell(commands.replace(DASHBOARD, head.dashboard), tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "demo-aws" / "aws.yaml").is_file()


def own_commands() -> list[tuple[str, list[str]]]:
    """Return the suite's commands in the blocks that are not run, each as its name and its options."""
    lines = [line for page in PAGES for block in blocks(page, "text") for line in block.splitlines()]
    words = [shlex.split(line, comments=True) for line in lines if line.startswith("adaptertune ")]
    return [(line[1], [word for word in line if word.startswith("--")]) for line in words]


def test_options_are_those_of_the_commands_when_a_page_names_them() -> None:
    import typer

    from tuning.cli.app import app

    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert own_commands()
    for name, options in own_commands():
        known = {option for parameter in commands[name].params for option in parameter.opts}
        assert set(options) <= known, name


def test_linked_files_are_there_when_a_page_names_them() -> None:
    named = {
        path
        for page in PAGES
        for path in re.findall(r"`((?:docs|tests|launch|tuning)/[\w./-]+\.\w+|launch/Containerfile)`", page.read_text())
    }
    assert named and all((ROOT / path).is_file() for path in named)
