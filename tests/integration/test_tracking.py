import json
import math
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from benchmark.errors import MissingError, RequestError
from benchmark.result import TrialStatus
from benchmark.tracking import (
    StudyTracker,
    create_store,
    database,
    default_tracking_uri,
    list_studies,
    read_curves,
    read_first_losses,
    read_predictions,
    read_study,
    store_report,
)
from benchmark.tracking.store import open_client

from . import tracking_samples as samples

pytest.importorskip("mlflow")

SPEC = samples.trial_spec()
AWKWARD = 'it\'s "<script>alert(1)</script>"; DROP TABLE runs;\nsecond line / ../.. é %s `tick`'


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("a folder # with signs")
    # Six at once: without a lock, MLflow's migrations of a fresh database crash.
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(create_store, [default_tracking_uri(folder)] * 6))
    return folder / "mlflow.db"


@pytest.fixture
def uri(empty_store, tmp_path):
    # The tables are made once: MLflow's forty migrations take seconds.
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return default_tracking_uri(tmp_path)


def open_study(uri, *specs, name="rank-study"):
    return StudyTracker(uri, name, {"name": name, "question": "Why?"}, samples.planned(*(specs or (SPEC,))), "Why?")


def runs_of(uri, tracker):
    return list(open_client(uri).search_runs([tracker.experiment_id]))


def artifacts_of(uri, run_id, path):
    return [file.path for file in open_client(uri).list_artifacts(run_id, path)]


def history(uri, run_id, metric):
    return [(point.step, point.value) for point in open_client(uri).get_metric_history(run_id, metric)]


def deliver(uri, outcome):
    tracker = open_study(uri)
    tracker.finish_trial(outcome)
    return tracker


def test_result_round_trips_when_read_back(uri):
    outcome = samples.completed(SPEC)
    deliver(uri, outcome)
    record = read_study(uri, "rank-study")
    assert record.trials[0].result == outcome.result.model_copy(
        update={"epochs": [], "first_step_losses": [], "confusion": None}
    )
    assert record.planned == samples.planned(SPEC)
    assert record.spec == {"name": "rank-study", "question": "Why?"}
    assert record.test_reads == [
        {
            "trial_id": SPEC.trial_id,
            "seed": 0,
            "read_at": "2026-01-02T03:04:05+00:00",
            "selected_epoch": 5,
            "run_id": record.trials[0].run_id,
            "user": None,
        }
    ]


def test_curves_round_trip_when_read_back(uri):
    outcome = samples.completed(SPEC)
    deliver(uri, outcome)
    run_id = read_study(uri, "rank-study").trials[0].run_id
    assert read_curves(uri, [run_id]) == {run_id: outcome.result.epochs}


def test_first_losses_round_trip_when_read_back(uri):
    deliver(uri, samples.completed(SPEC))
    run_id = read_study(uri, "rank-study").trials[0].run_id
    assert read_first_losses(uri, [run_id]) == {run_id: [1.5, 1.25]}


def test_study_and_curves_are_the_same_when_mlflow_itself_is_asked(uri, monkeypatch):
    tracker = deliver(uri, samples.completed(SPEC))
    tracker.start_trial(samples.trial_spec(1).trial_id, samples.trial_spec(1))
    at_once, run_id = read_study(uri, "rank-study"), read_study(uri, "rank-study").trials[0].run_id
    curves, statuses = read_curves(uri, [run_id]), open_study(uri).delivered_statuses()
    losses = read_first_losses(uri, [run_id])
    monkeypatch.setattr(database, "artifact_uris", lambda *_: None)
    monkeypatch.setattr(database, "metric_histories", lambda *_: None)
    monkeypatch.setattr(database, "study_runs", lambda *_: None)
    assert (read_study(uri, "rank-study"), read_curves(uri, [run_id])) == (at_once, curves)
    assert read_first_losses(uri, [run_id]) == losses
    assert open_study(uri).delivered_statuses() == statuses == {SPEC.trial_id: TrialStatus.COMPLETED}


def test_none_is_said_when_the_database_has_other_tables(tmp_path):
    uri = default_tracking_uri(tmp_path)
    assert database.num_delivered(uri, "run") is database.study_runs(uri, "1", ["tag"]) is None
    assert database.metric_histories(uri, ["run"], ["metric"]) is None
    assert not (tmp_path / "mlflow.db").exists()


def test_predictions_round_trip_when_read_back(uri):
    deliver(uri, samples.completed(SPEC))
    arrays = read_predictions(uri, read_study(uri, "rank-study").trials[0].run_id)
    assert arrays["identity"].tolist() == [f"test/{index}" for index in range(6)]
    assert arrays["label"].tolist() == [0, 0, 1, 1, 2, 2]
    # The sample's logits fall from class 0 to class 2 in every row.
    assert arrays["prediction"].tolist() == [0] * 6
    np.testing.assert_array_equal(arrays["logits"], samples.logits())


def test_nothing_is_duplicated_when_a_trial_is_delivered_twice(uri):
    outcome = samples.completed(SPEC)
    tracker = deliver(uri, outcome)
    run_id = read_study(uri, "rank-study").trials[0].run_id
    tracker.finish_trial(outcome)
    deliver(uri, outcome)
    assert len(runs_of(uri, tracker)) == 2  # the study and its trial
    assert len(history(uri, run_id, "test_top1")) == 1
    assert len(history(uri, run_id, "validation_top1")) == 7


def test_delivery_is_completed_when_it_broke_off_before_the_mark(uri):
    tracker = deliver(uri, samples.completed(SPEC))
    run_id = read_study(uri, "rank-study").trials[0].run_id
    open_client(uri).delete_tag(run_id, "adaptertune.delivered")
    again = open_study(uri)
    assert again.delivered() == set()
    again.finish_trial(samples.completed(SPEC))
    assert again.delivered() == {SPEC.trial_id}
    assert len(runs_of(uri, tracker)) == 2
    assert len(history(uri, run_id, "usage/wall_seconds")) == 1


def test_parent_is_found_again_when_the_study_is_opened_again(uri):
    first, second = open_study(uri), open_study(uri)
    assert (second.run_id, second.experiment_id) == (first.run_id, first.experiment_id)


def test_trials_are_nested_when_written(uri):
    tracker = deliver(uri, samples.completed(SPEC))
    client = open_client(uri)
    child = client.get_run(read_study(uri, "rank-study").trials[0].run_id)
    assert child.data.tags["mlflow.parentRunId"] == tracker.run_id
    assert child.info.run_name == "adaptertune r16 · seed 0"
    assert child.info.end_time - child.info.start_time == 20_000  # the sample's provenance
    assert child.data.params["rank"] == "16"
    assert child.data.metrics["test_top1"] == 0.75
    names = {file.path for file in client.list_artifacts(child.info.run_id)}
    assert names == {
        "spec.json",
        "result.json",
        "predictions.parquet",
        "adapter.safetensors",
        "confusion.csv",
    }


def test_pages_show_data_sets_descriptions_and_telling_columns_when_written(uri):
    tracker = deliver(uri, samples.completed(SPEC))
    client = open_client(uri)
    trial = next(run for run in runs_of(uri, tracker) if run.data.tags.get("trial_id") == SPEC.trial_id)
    (used,) = trial.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("digits", SPEC.dataset.split_sha256[:8])
    assert [(tag.key, tag.value) for tag in used.tags] == [("mlflow.data.context", "training, validation, test")]
    assert "75.00% of 6 test images" in trial.data.tags["mlflow.note.content"]
    assert "**Question.** Why?" in client.get_run(tracker.run_id).data.tags["mlflow.note.content"]
    tags = client.get_experiment(tracker.experiment_id).tags
    view = json.loads(next(value for name, value in tags.items() if name.startswith("mlflow.sharedViewState.")))
    assert view["selectedColumns"][:2] == ["metrics.`test_top1`", "metrics.`validation_top1_selected`"]


def test_curves_continue_without_duplicates_when_resumed(uri):
    tracker = open_study(uri)
    tracker.start_trial(SPEC.trial_id, SPEC)
    tracker.log_epochs(SPEC.trial_id, samples.epochs(0, 3))
    resumed = open_study(uri)
    resumed.start_trial(SPEC.trial_id, SPEC)
    resumed.log_epochs(SPEC.trial_id, samples.epochs(2, 5))
    run = next(run for run in runs_of(uri, tracker) if run.info.run_id != tracker.run_id)
    assert [step for step, _ in history(uri, run.info.run_id, "validation_top1")] == [0, 1, 2, 3, 4, 5]


def test_failed_trial_is_stored_with_its_reason_when_finished(uri):
    deliver(uri, samples.ended(SPEC, TrialStatus.OUT_OF_MEMORY, "rank 1 was killed"))
    record = read_study(uri, "rank-study")
    run = open_client(uri).get_run(record.trials[0].run_id)
    assert (run.info.status, run.data.tags["status"], run.data.tags["reason"]) == (
        "FAILED",
        "OUT_OF_MEMORY",
        "rank 1 was killed",
    )
    assert "test_top1" not in run.data.metrics
    assert record.trials[0].result.reason == "rank 1 was killed"


def test_failure_is_replaced_when_a_retry_completes(uri):
    tracker = deliver(uri, samples.ended(SPEC, TrialStatus.NODE_LOST, "the node went away"))
    assert tracker.delivered_statuses() == {SPEC.trial_id: TrialStatus.NODE_LOST}
    tracker.start_trial(SPEC.trial_id, SPEC)
    assert tracker.delivered() == set()
    assert read_study(uri, "rank-study").trials == []
    tracker.finish_trial(samples.completed(SPEC))
    trial = read_study(uri, "rank-study").trials[0]
    run = open_client(uri).get_run(trial.run_id)
    assert (trial.result.status, run.info.status) == (TrialStatus.COMPLETED, "FINISHED")
    assert "reason" not in run.data.tags


def test_final_result_is_kept_when_its_trial_is_started_again(uri):
    tracker = deliver(uri, samples.completed(SPEC))
    tracker.start_trial(SPEC.trial_id, SPEC)
    assert tracker.delivered() == {SPEC.trial_id}


def test_long_reason_is_shortened_in_the_tag_when_the_whole_is_in_the_artifact(uri):
    reason = "traceback " * 2000
    deliver(uri, samples.ended(SPEC, TrialStatus.FAILED, reason))
    trial = read_study(uri, "rank-study").trials[0]
    tags = open_client(uri).get_run(trial.run_id).data.tags
    assert len(tags["reason"]) == 500
    assert tags["reason"].endswith("(whole text: result.json)")
    assert "adaptertune.result" not in tags
    assert trial.result.reason == reason


def test_not_a_number_is_kept_when_a_trial_diverged(uri):
    outcome = samples.ended(SPEC, TrialStatus.DIVERGED, "the loss is not finite")
    outcome.result.epochs.append(samples.epoch_record(1, validation_loss=math.nan))
    deliver(uri, outcome)
    run_id = read_study(uri, "rank-study").trials[0].run_id
    assert math.isnan(read_curves(uri, [run_id])[run_id][0].validation_loss)


def test_awkward_names_are_harmless_when_stored_and_read(uri):
    spec = samples.trial_spec(method=AWKWARD, init=AWKWARD)
    tracker = open_study(uri, spec, name=AWKWARD)
    tracker.finish_trial(samples.ended(spec, TrialStatus.FAILED, AWKWARD))
    record = read_study(uri, AWKWARD)
    assert record.trials[0].result.reason == AWKWARD
    assert list_studies(uri) == [AWKWARD]
    assert open_study(uri, spec, name=AWKWARD).run_id == tracker.run_id


def test_wall_seconds_add_up_when_the_study_is_run_again(uri):
    first = open_study(uri)
    first.finish_study(10.0, {"num_trials_completed": 1.0})
    first.finish_study(10.0, {"num_trials_completed": 1.0})  # a repeated request
    open_study(uri).finish_study(5.5)
    assert read_study(uri, "rank-study").wall_seconds == 15.5


def test_report_is_stored_with_the_study_when_logged(uri, tmp_path):
    made = tmp_path / "made"
    (made / "tables").mkdir(parents=True)
    for name in ("index.html", "tables/results.csv", "the users own.txt"):
        (made / name).write_text("text")
    tracker = open_study(uri)
    store_report(uri, tracker.run_id, made, [Path("index.html")])
    store_report(uri, tracker.run_id, made, [Path("index.html"), Path("tables/results.csv")])
    assert artifacts_of(uri, tracker.run_id, "report") == ["report/index.html", "report/tables"]
    assert artifacts_of(uri, tracker.run_id, "report/tables") == ["report/tables/results.csv"]


def test_report_stays_inside_the_folder_when_the_output_was_moved(uri, tmp_path):
    tracker = open_study(uri)
    moved = tmp_path.parent / f"{tmp_path.name} moved"
    shutil.copytree(tmp_path, moved)
    (tmp_path / "index.html").write_text("text")
    store_report(default_tracking_uri(moved), tracker.run_id, tmp_path, [Path("index.html")])
    assert [path.name for path in moved.glob("mlartifacts/*/*/artifacts/report/*")] == ["index.html"]
    assert not list(tmp_path.glob("mlartifacts/*/*/artifacts/report"))


def test_running_trials_are_killed_when_interrupted(uri):
    tracker = open_study(uri)
    tracker.start_trial(SPEC.trial_id, SPEC)
    tracker.mark_interrupted()
    tracker.finish_study(1.0, interrupted=True)
    assert {run.info.status for run in runs_of(uri, tracker)} == {"KILLED"}


def test_results_are_read_when_the_output_folder_was_moved(uri, tmp_path):
    deliver(uri, samples.completed(SPEC))
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    shutil.move(tmp_path / "mlflow.db", moved)
    shutil.move(tmp_path / "mlartifacts", moved)
    record = read_study(default_tracking_uri(moved), "rank-study")
    assert record.planned == samples.planned(SPEC)
    assert len(read_predictions(default_tracking_uri(moved), record.trials[0].run_id)["label"]) == 6


def test_nearest_study_is_named_when_the_study_is_unknown(uri):
    open_study(uri)
    with pytest.raises(RequestError, match="Did you mean 'rank-study'"):
        read_study(uri, "rank-stduy")


def test_no_database_is_made_when_reading_from_a_wrong_address(tmp_path):
    with pytest.raises(RequestError, match="no results"):
        read_study(default_tracking_uri(tmp_path / "typo"), "demo")
    assert list_studies(default_tracking_uri(tmp_path / "typo")) == []
    assert not (tmp_path / "typo").exists()


def test_deleted_study_is_named_when_it_is_run_again(uri):
    open_client(uri).delete_experiment(open_study(uri).experiment_id)
    with pytest.raises(RequestError, match="mlflow experiments restore"):
        open_study(uri)


def test_missing_is_raised_when_a_newer_mlflow_wrote_the_database(uri, tmp_path):
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("UPDATE alembic_version SET version_num = 'fffffffffff0'")
    with pytest.raises(MissingError, match="newer MLflow"):
        create_store(uri)
    assert (tmp_path / "mlflow.db.before-migration").exists()


@pytest.mark.slow
def test_older_database_is_migrated_when_opened(tmp_path):
    from alembic import command
    from mlflow.store.db.utils import _get_alembic_config, create_sqlalchemy_engine
    from mlflow.store.tracking.dbmodels.initial_models import Base

    uri = default_tracking_uri(tmp_path)
    engine = create_sqlalchemy_engine(uri)
    Base.metadata.create_all(engine)
    config = _get_alembic_config(uri)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "heads-1")
    create_store(uri)
    assert list_studies(uri) == []


def test_fresh_database_is_usable_when_six_writers_made_it(empty_store):
    assert list_studies(default_tracking_uri(empty_store.parent)) == []


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "http://user:secret@127.0.0.1:9"])
@pytest.mark.timeout(20)
def test_missing_is_raised_soon_when_the_server_is_unreachable(address):
    with pytest.raises(MissingError, match=r"http://127\.0\.0\.1:9 does not answer") as raised:
        create_store(address)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("address", ["mlruns", "file:///tmp/x", "sqlite://", "sqlite:///:memory:", "databricks"])
def test_request_error_is_raised_when_the_address_is_of_another_kind(address):
    with pytest.raises(RequestError, match="tracking-uri"):
        create_store(address)


def test_request_error_is_raised_at_once_when_the_file_is_no_database(tmp_path):
    (tmp_path / "mlflow.db").write_text("this is a text file, not a database")
    with pytest.raises(RequestError, match="not an sqlite database"):
        create_store(default_tracking_uri(tmp_path))


def test_store_is_silent_and_off_the_network_when_used(empty_store, tmp_path):
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    script = textwrap.dedent(
        """
        import socket, sys
        from pathlib import Path
        def refuse(self, address):
            sys.stdout.write(f"connects to {address}")
            raise OSError("no network here")
        socket.socket.connect = refuse
        socket.socket.connect_ex = refuse
        import benchmark.tracking as tracking
        heavy = {"mlflow", "pyarrow", "pandas", "torch"} & set(sys.modules)
        assert not heavy, heavy
        tracking.StudyTracker(tracking.default_tracking_uri(Path(sys.argv[1])), "demo", {}, []).finish_study(1.0)
        """
    )
    # MLflow sends no telemetry from tests and CI; the subprocess must not look like one.
    hidden = ("CI", "PYTEST_CURRENT_TEST", "PYTEST_VERSION", "GITHUB_ACTIONS")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
