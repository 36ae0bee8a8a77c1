"""Guards `adaptertune cache`: what it lists, what it removes, and that JSON stands alone on stdout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmark.cache_folder import open_entry
from tuning.cli.app import run


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Fill a cache of the test's own with one entry of a kilobyte."""
    monkeypatch.setenv("ADAPTERTUNE_CACHE", str(tmp_path))
    held = open_entry("decoded", "a" * 32, {"name": "cifar10/train"}, _write_kilobyte)
    held.lock.close()
    return tmp_path


def _write_kilobyte(folder: Path) -> None:
    (folder / "pixels.bin").write_bytes(bytes(1000))


def _json_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert run([*arguments, "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_entries_and_cap_are_listed_when_asked(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = _json_of(["cache", "list"], capsys)
    assert [(entry["kind"], entry["name"]) for entry in document["entries"]] == [("decoded", "cifar10/train")]
    assert document["num_bytes"] > 1000
    assert document["root"] == str(cache)


def test_table_names_the_data_set_when_people_ask(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cache", "list"]) == 0
    assert "cifar10/train" in capsys.readouterr().out


def test_nothing_goes_when_all_fits_under_the_cap(capsys: pytest.CaptureFixture[str]) -> None:
    assert _json_of(["cache", "prune"], capsys)["removed"] == []


def test_everything_goes_when_nothing_may_stay(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(_json_of(["cache", "prune", "--max-gb", "0"], capsys)["removed"]) == 1
    assert _json_of(["cache", "list"], capsys)["entries"] == []


def test_negative_size_is_refused_when_pruning() -> None:
    assert run(["cache", "prune", "--max-gb", "-1"]) == 2
