"""Faults that need no cluster: a full disk, a damaged checkpoint, a tracking server that goes away and comes back."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
import pytest

from benchmark.launch_plan import plan_launch
from benchmark.request import resolve_trial
from benchmark.result import TrialOutcome
from benchmark.tracking import (
    Delivery,
    StudyTracker,
    create_store,
    default_tracking_uri,
    read_curves,
    read_study,
    ui_command,
    ui_environment,
)
from benchmark.training.trial import EpochReport, trial_steps
from tests.integration import tracking_samples as samples
from tests.ports import free_port
from tests.postgres_server import PROGRAMS, postgres
from tuning.ledger import Ledger

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

Note = Callable[..., None]

WRITER = """
import resource, signal, sys
from tests.integration import tracking_samples as samples
from tests.postgres_server import PROGRAMS, postgres
from tuning.ledger import Ledger
ledger = Ledger(sys.argv[1])
ledger.begin("0" * 16, "demo")
for epoch in range(2):
    ledger.record_epoch("0" * 16, samples.epoch_record(epoch), b"%d" % epoch * 1000)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, resource.RLIM_INFINITY))
try:
    ledger.record_epoch("0" * 16, samples.epoch_record(2), b"2" * 1_000_000)
except OSError as error:
    print(type(error).__name__, error.errno)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(ledger.resume_point("0" * 16).epoch)
ledger.record_epoch("0" * 16, samples.epoch_record(2), b"2" * 1_000_000)
print(ledger.resume_point("0" * 16).epoch)
"""


def test_last_whole_checkpoint_stays_when_the_disk_is_full(tmp_path: Path, note_fault: Note) -> None:
    # A limit on a file's size ends a write in its middle, as a full disk does (EFBIG, 27, instead of ENOSPC).
    began = time.perf_counter()
    answer = subprocess.run([sys.executable, "-c", WRITER, str(tmp_path)], capture_output=True, text=True, check=True)
    assert answer.stdout.split("\n")[:3] == ["OSError 27", "1", "2"], answer
    assert sorted(path.name for path in (tmp_path / "trials" / ("0" * 16)).iterdir()) == ["last.ckpt", "previous.ckpt"]
    note_fault("disk full while a checkpoint is written (no trial)", None, time.perf_counter() - began)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0b0001_0000
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.usefixtures("group_of_one")
@pytest.mark.parametrize("damage", [flip_a_bit, truncate])
def test_result_is_the_undisturbed_ones_when_a_checkpoint_is_damaged(
    damage: Callable[[Path], None], tiny_request: dict[str, Any], tmp_path: Path, note_fault: Note
) -> None:
    tiny_request["training"] |= {"epochs": 3}
    spec, plan = resolve_trial(tiny_request), plan_launch(256)
    ledger = Ledger(tmp_path)
    for step in trial_steps(spec, plan):
        assert isinstance(step, EpochReport)
        ledger.record_epoch(spec.trial_id, step.record, step.checkpoint)
        if step.record.epoch == 2:
            break
    damage(tmp_path / "trials" / spec.trial_id / "last.ckpt")
    began = time.perf_counter()
    point = ledger.begin(spec.trial_id, "demo")
    noticed = time.perf_counter() - began
    assert point is not None and point.epoch == 1
    steps = trial_steps(spec, plan, point.checkpoint)
    again = next(steps)
    note_fault(f"a checkpoint damaged: {damage.__name__}", noticed, time.perf_counter() - began)
    assert isinstance(again, EpochReport) and again.record.epoch == 2
    *_, resumed = steps
    *_, undisturbed = trial_steps(spec, plan)
    assert isinstance(resumed, TrialOutcome) and isinstance(undisturbed, TrialOutcome)
    assert (resumed.predictions, resumed.checkpoint) == (undisturbed.predictions, undisturbed.checkpoint)


def server_at(port: int, store: str) -> contextlib.AbstractContextManager[psutil.Process]:
    """A real MLflow server over a local store, ended with all of its processes."""
    return serving(ui_command(store, port), port)


@contextlib.contextmanager
def serving(command: list[str], port: int) -> Iterator[psutil.Process]:
    process = subprocess.Popen(command, env={**os.environ, **ui_environment()}, start_new_session=True)
    server = psutil.Process(process.pid)
    try:
        wait_until(lambda: is_healthy(port))
        yield server
    finally:
        family = [*server.children(recursive=True), server]
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        process.wait()
        psutil.wait_procs(family, timeout=20)


def is_healthy(port: int) -> bool:
    with contextlib.suppress(OSError), urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
        return bool(answer.status == 200)
    return False


def wait_until(condition: Callable[[], bool], seconds: float = 180.0) -> float:
    began = time.perf_counter()
    while not condition():
        assert time.perf_counter() - began < seconds
        time.sleep(0.1)
    return time.perf_counter() - began


def test_nothing_is_lost_or_doubled_when_the_tracking_server_goes_and_comes_back(
    tmp_path: Path, note_fault: Note, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    store, port = default_tracking_uri(tmp_path), free_port()
    create_store(store)
    specs = [samples.trial_spec(seed) for seed in range(3)]
    with server_at(port, store) as server:
        sockets = [one for member in [server, *server.children(recursive=True)] for one in member.net_connections()]
        assert {one.laddr.ip for one in sockets if one.status == psutil.CONN_LISTEN} == {"127.0.0.1"}
        tracker = StudyTracker(f"http://127.0.0.1:{port}", "outage", {"name": "outage"}, samples.planned(*specs))
        delivery = Delivery(tracker)
        delivery.finish_trial(specs[0].trial_id, lambda: samples.completed(specs[0]))
        wait_until(lambda: len(read_study(store, "outage").trials) == 1)
    for spec in specs[1:]:
        delivery.start_trial(spec.trial_id, spec)
        delivery.log_epochs(spec.trial_id, samples.epochs(0, 2))
        delivery.finish_trial(spec.trial_id, lambda spec=spec: samples.completed(spec))  # type: ignore[misc]
    noticed = wait_until(lambda: "does not answer" in caplog.text)
    with server_at(port, store):
        again = wait_until(lambda: "answers again" in caplog.text)
        outcome = delivery.close(120.0)
    note_fault("the MLflow server gone, and back (the study goes on meanwhile)", noticed, again)
    assert (outcome.undelivered_trial_ids, outcome.error) == ((), None)
    trials = read_study(store, "outage").trials
    assert sorted(trial.result.trial_id for trial in trials) == sorted(spec.trial_id for spec in specs)
    assert len({trial.run_id for trial in trials}) == 3


def test_results_wait_in_the_ledger_when_the_tracking_server_stays_away(tmp_path: Path, note_fault: Note) -> None:
    store, port = default_tracking_uri(tmp_path), free_port()
    create_store(store)
    spec = samples.trial_spec(0)
    with server_at(port, store):
        tracker = StudyTracker(f"http://127.0.0.1:{port}", "outage", {"name": "outage"}, samples.planned(spec))
    delivery = Delivery(tracker)
    delivery.finish_trial(spec.trial_id, lambda: samples.completed(spec))
    began = time.perf_counter()
    outcome = delivery.close(3.0)
    note_fault("the MLflow server gone for good (told to wait 3 s at the end)", time.perf_counter() - began, None)
    assert outcome.undelivered_trial_ids == (spec.trial_id,)
    assert read_study(store, "outage").trials == []


WITHOUT_POSTGRES = [] if PROGRAMS else ["PostgreSQL"]
WITHOUT_POSTGRES += [] if importlib.util.find_spec("psycopg2") else ["psycopg2"]


@pytest.mark.skipif(bool(WITHOUT_POSTGRES), reason=f"not here: {', '.join(WITHOUT_POSTGRES)}")
def test_nothing_is_lost_or_doubled_when_postgresql_is_restarted_under_load(
    tmp_path: Path, note_fault: Note, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    port, specs = free_port(), [samples.trial_spec(seed) for seed in range(8)]
    with postgres("correct-horse") as database:
        command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", database.uri, "--host", "127.0.0.1"]
        command += ["--port", str(port), "--workers", "1", "--artifacts-destination", str(tmp_path / "artifacts")]
        with serving(command, port):
            uri = f"http://127.0.0.1:{port}"
            create_store(uri)
            tracker = StudyTracker(uri, "restart", {"name": "restart"}, samples.planned(*specs))
            delivery = Delivery(tracker)
            for spec in specs:
                delivery.start_trial(spec.trial_id, spec)
                for epoch in range(7):
                    delivery.log_epochs(spec.trial_id, samples.epochs(epoch, epoch))
                delivery.finish_trial(spec.trial_id, lambda spec=spec: samples.completed(spec))  # type: ignore[misc]
            wait_until(lambda: len(read_study(uri, "restart").trials) >= 1)
            database.stop()
            began = time.perf_counter()
            noticed = wait_until(lambda: "does not answer" in caplog.text)
            database.start()
            up_after = time.perf_counter() - began
            again = up_after + wait_until(lambda: "answers again" in caplog.text)
            outcome = delivery.close(180.0)
            assert (outcome.undelivered_trial_ids, outcome.error) == ((), None)
            trials = read_study(uri, "restart").trials
            curves = read_curves(uri, [trial.run_id for trial in trials])
    note_fault(f"PostgreSQL under MLflow down for {up_after:.0f} s, under load", noticed, again)
    assert sorted(trial.result.trial_id for trial in trials) == sorted(spec.trial_id for spec in specs)
    assert [[record.epoch for record in curve] for curve in curves.values()] == [list(range(7))] * 8
