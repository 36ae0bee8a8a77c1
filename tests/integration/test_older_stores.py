"""Stores of other versions: older ones are read and written on, newer ones are refused and left as they are.

The older ones are written here by the statements of the versions that made them.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
import yaml

from benchmark.errors import MissingError
from benchmark.result import RESULT_SCHEMA_VERSION, TrialResult, TrialStatus
from benchmark.tracking import StudyTracker, default_tracking_uri, read_study
from benchmark.tracking.store import open_client
from tests.integration import tracking_samples as samples
from tuning.cli.app import run
from tuning.ledger import LEDGER_FILE, LEDGER_VERSION, Ledger
from tuning.study import load_study

TRIAL = "0123456789abcdef"

FIRST_TABLES = """
CREATE TABLE trials (
    trial_id TEXT PRIMARY KEY, study TEXT NOT NULL, status TEXT, reason TEXT, result TEXT,
    predictions_sha256 TEXT, adapter_sha256 TEXT, started_at TEXT, ended_at TEXT);
CREATE TABLE epochs (
    trial_id TEXT NOT NULL, epoch INTEGER NOT NULL, record TEXT NOT NULL, validation_top1 REAL,
    checkpoint_sha256 TEXT, wall_seconds REAL NOT NULL, PRIMARY KEY (trial_id, epoch)) WITHOUT ROWID;
"""
"""Of the first ledgers: no table of settled studies, no version."""

FIRST_RESULT = {
    "trial_id": TRIAL,
    "condition_id": "0" * 12,
    "spec": {},
    "status": "COMPLETED",
    "test": {"top1": 0.5, "mean_per_class": 0.5, "loss": 1.0, "num_images": 2},
}
"""A record without the fields that came later, such as first losses and class names."""


def version_of(folder: Path) -> int:
    connection = sqlite3.connect(folder / LEDGER_FILE)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.close()
    return int(version)


@pytest.fixture
def old_ledger(tmp_path: Path) -> Path:
    """A folder with a first ledger of one completed trial."""
    connection = sqlite3.connect(tmp_path / LEDGER_FILE)
    connection.executescript(FIRST_TABLES)
    row = (TRIAL, "demo", "COMPLETED", json.dumps(FIRST_RESULT))
    connection.execute("INSERT INTO trials (trial_id, study, status, result) VALUES (?, ?, ?, ?)", row)
    connection.commit()
    connection.close()
    return tmp_path


def test_older_ledger_is_read_and_written_on_when_opened(old_ledger: Path) -> None:
    ledger = Ledger(old_ledger)
    result = ledger.result(TRIAL)
    assert result is not None and result.test is not None
    assert (result.status, result.test.top1, result.first_step_losses) == (TrialStatus.COMPLETED, 0.5, [])
    ledger.record_settled("demo", "uri", "digest", "run")
    assert ledger.settled_run("demo", "uri", "digest") == "run"
    ledger.close()
    assert version_of(old_ledger) == LEDGER_VERSION


def test_newer_ledger_is_left_alone_when_refused(old_ledger: Path) -> None:
    connection = sqlite3.connect(old_ledger / LEDGER_FILE)
    connection.execute(f"PRAGMA user_version={LEDGER_VERSION + 1}")
    connection.close()
    before = (old_ledger / LEDGER_FILE).read_bytes()
    with pytest.raises(MissingError, match="newer version of the suite"):
        Ledger(old_ledger)
    assert (old_ledger / LEDGER_FILE).read_bytes() == before


def test_newer_record_is_refused_when_read() -> None:
    newer = {**FIRST_RESULT, "schema_version": RESULT_SCHEMA_VERSION + 1}
    with pytest.raises(MissingError, match="newer version of the suite"):
        TrialResult.model_validate_json(json.dumps(newer))


def test_study_without_a_version_is_read_and_written_on_when_it_is_older(tmp_path: Path) -> None:
    uri, specs = default_tracking_uri(tmp_path), [samples.trial_spec(0), samples.trial_spec(1)]
    tracker = StudyTracker(uri, "rank-study", {"name": "rank-study"}, samples.planned(*specs))
    tracker.finish_trial(samples.completed(specs[0]))
    open_client(uri).delete_tag(tracker.run_id, "adaptertune.schema")
    StudyTracker(uri, "rank-study", {"name": "rank-study"}, samples.planned(*specs)).finish_trial(
        samples.completed(specs[1])
    )
    assert len(read_study(uri, "rank-study").trials) == 2
    open_client(uri).set_tag(tracker.run_id, "adaptertune.schema", "2")
    with pytest.raises(MissingError, match="newer version of the suite"):
        read_study(uri, "rank-study")
    with pytest.raises(MissingError, match="newer version of the suite"):
        StudyTracker(uri, "rank-study", {"name": "rank-study"}, samples.planned(*specs))


def test_nothing_is_trained_again_when_an_older_version_left_every_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tmp_path / "older.yaml"
    written = {"name": "older", "backbone": "vit_nano", "dataset": "digits", "method": "head_only", "seed": [0, 1]}
    study.write_text(yaml.safe_dump(written), encoding="utf-8")
    specs = [trial.spec for trial in load_study(str(study)).trials]
    output = tmp_path / "output"
    output.mkdir()
    connection = sqlite3.connect(output / LEDGER_FILE)
    connection.executescript(FIRST_TABLES)
    for spec in specs:
        ids = {"trial_id": spec.trial_id, "condition_id": spec.condition_id, "spec": spec.model_dump(mode="json")}
        row = (spec.trial_id, "older", "COMPLETED", json.dumps({**FIRST_RESULT, **ids}))
        connection.execute("INSERT INTO trials (trial_id, study, status, result) VALUES (?, ?, ?, ?)", row)
    connection.commit()
    connection.close()
    assert run(["run", str(study), "--output", str(output), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["statuses"] == {spec.trial_id: "COMPLETED" for spec in specs}
    assert document["summary"]["conditions"][0]["test_top1_mean"] == 0.5, "the older version's score"
    tracked = read_study(default_tracking_uri(output), "older").trials
    assert sorted(trial.result.trial_id for trial in tracked) == sorted(spec.trial_id for spec in specs)
    assert version_of(output) == LEDGER_VERSION
