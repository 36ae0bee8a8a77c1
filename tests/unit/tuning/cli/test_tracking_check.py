"""What the doctor says of a tracking store, healthy and broken; a real server's is in tests/cluster."""

from __future__ import annotations

import contextlib
import importlib.metadata
import sqlite3
from pathlib import Path

import pytest

from benchmark import tracking
from benchmark.tracking import create_store, default_tracking_uri
from tuning.cli.checks import tracking_check


def uris(output: Path) -> tuple[str | None, str]:
    """The store that a study takes by itself, and the same one named."""
    return None, default_tracking_uri(output)


def test_nothing_is_made_when_there_is_no_database_yet(tmp_path: Path) -> None:
    assert all(tracking_check(uri, tmp_path / "out").ok for uri in uris(tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


def test_database_is_as_it_was_when_another_mlflow_made_its_tables(tmp_path: Path) -> None:
    create_store(default_tracking_uri(tmp_path))
    assert all(tracking_check(uri, tmp_path).ok for uri in uris(tmp_path))
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as store, store:
        store.execute("UPDATE alembic_version SET version_num = 'another'")
    before = (tmp_path / "mlflow.db").read_bytes()
    for uri in uris(tmp_path):
        check = tracking_check(uri, tmp_path)
        assert not check.ok and "tables of another MLflow" in check.found and "keeps a copy" in check.advice
    assert (tmp_path / "mlflow.db").read_bytes() == before


def test_address_that_no_run_could_use_is_said_to_be_wrong(tmp_path: Path) -> None:
    check = tracking_check("postgresql://user@host/mlflow", tmp_path)
    assert not check.ok and "http(s)://HOST:PORT" in check.found


@pytest.mark.parametrize(("version", "ok"), [(importlib.metadata.version("mlflow"), True), ("1.30.0", False)])
def test_servers_version_is_compared_when_it_answers(
    version: str, ok: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "server_version", lambda _: version)
    check = tracking_check("http://user:secret@tracker:5000", tmp_path)
    assert (check.ok, "secret" in check.found, check.found.endswith(f"MLflow {version}")) == (ok, False, True)
