"""A new store's tables come from a copy: they are those that MLflow makes itself, and no copy is needed."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from benchmark.cache_folder import ROOT_VARIABLE, list_entries
from benchmark.tracking.store import create_store, default_tracking_uri


def tables_of(folder: Path) -> dict[str, list[str]]:
    """Return each table's and index's definition, its lines sorted: MLflow orders constraints now so, now otherwise."""
    with sqlite3.connect(folder / "mlflow.db") as database:
        rows = database.execute("select name, sql from sqlite_master where sql is not null").fetchall()
    return {name: sorted(line.strip(" \t,") for line in sql.splitlines()) for name, sql in rows}


def create(folder: Path) -> dict[str, list[str]]:
    folder.mkdir()
    create_store(default_tracking_uri(folder))
    return tables_of(folder)


def test_tables_are_mlflows_own_when_they_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    not_a_folder = tmp_path / "file"
    not_a_folder.write_bytes(b"")
    monkeypatch.setenv(ROOT_VARIABLE, str(not_a_folder))
    made_by_mlflow = create(tmp_path / "made")
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "cache"))
    assert create(tmp_path / "first") == made_by_mlflow
    assert [entry.kind for entry in list_entries()] == ["tracking"]
    assert create(tmp_path / "second") == made_by_mlflow
    assert len(made_by_mlflow) > 20
