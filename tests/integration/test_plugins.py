"""Guards that the example in docs/plugins.md works as printed, and that a bad plugin is named."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _printed(language: str) -> str:
    (text,) = re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / "plugins.md").read_text(), re.DOTALL)
    return str(text)


def _install(folder: Path, name: str, version: str, group: str, entries: dict[str, str]) -> None:
    """Write what pip would: a distribution's metadata and its entry points."""
    metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [f"{entry} = {value}" for entry, value in entries.items()]
    (metadata / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))


def _run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    return subprocess.run(
        [sys.executable, *command],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_printed_example_trains_when_installed(tmp_path: Path) -> None:
    project = tomllib.loads(_printed("toml"))["project"]
    (group,) = project["entry-points"]
    _install(tmp_path, project["name"], project["version"], group, project["entry-points"][group])
    (tmp_path / "feature_gain.py").write_text(_printed("python"))
    (tmp_path / "trial.yaml").write_text(_printed("yaml"))
    done = _run(tmp_path, "-m", "benchmark", "trial.yaml", "--output-dir", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (result["status"], result["spec"]["method"]["name"]) == ("COMPLETED", "feature_gain")
    assert result["cost"]["num_adapter_parameters"] == 64  # vit_nano's width


@pytest.mark.parametrize(
    ("group", "entries", "method", "source", "said"),
    [
        ("adaptertune.methods", {"lora": "bad"}, "lora", "METHOD = None", ["bad-plugin 2.0", "built in", "'lora'"]),
        ("adaptertune.methods", {"bad": "bad"}, "bad", "1 / 0", ["bad-plugin 2.0", "ZeroDivisionError"]),
        ("adaptertune.methods", {"bad": "bad"}, "bad", "import nowhere_at_all", ["bad-plugin 2.0", "nowhere_at_all"]),
        ("adaptertune.methods", {"bad": "bad:X"}, "bad", "X = 1", ["bad-plugin 2.0", "names a module"]),
        ("adaptertune.methods", {"bad": "bad"}, "bad", "X = 1", ["no METHOD", "'bad'"]),
        ("adaptertune.datasets", {"digits": "bad"}, "head_only", "", ["bad-plugin 2.0", "built in", "'digits'"]),
        (
            "adaptertune.backbones",
            {"bad": "bad"},
            "head_only",
            "BACKBONES = {'vit_nano': None}",
            ["'vit_nano'", "of this name"],
        ),
    ],
)
def test_bad_plugin_is_named_when_it_is_met(
    tmp_path: Path, group: str, entries: dict[str, str], method: str, source: str, said: list[str]
) -> None:
    _install(tmp_path, "bad-plugin", "2.0", group, entries)
    (tmp_path / "bad.py").write_text(source)
    (tmp_path / "trial.yaml").write_text(f"{{backbone: vit_nano, dataset: digits, method: {method}}}")
    done = _run(tmp_path, "-m", "benchmark", "trial.yaml")
    assert done.returncode == 2, done.stderr
    assert [words for words in said if words not in done.stderr] == []
