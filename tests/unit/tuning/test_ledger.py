import signal
import subprocess
import sys
import time

import pytest

from benchmark.errors import MissingError, RequestError
from benchmark.result import EpochRecord, TrialOutcome, TrialResult, TrialStatus
from tuning.ledger import Ledger
from tuning.study_lock import StudyLock

TRIAL = "0123456789abcdef"


def make_record(epoch: int) -> EpochRecord:
    return EpochRecord(
        epoch=epoch,
        train_loss=None,
        validation_loss=1.0,
        validation_top1=epoch / 10,
        feature_drift=0.0,
        learning_rate=0.1,
        train_seconds=0.0,
        evaluation_seconds=0.0,
    )


def make_outcome(status: TrialStatus = TrialStatus.COMPLETED, trial_id: str = TRIAL) -> TrialOutcome:
    result = TrialResult(trial_id=trial_id, condition_id="0" * 12, spec={}, status=status, reason="why")
    completed = status is TrialStatus.COMPLETED
    return TrialOutcome(result, b"predictions" if completed else None, b"adapter" if completed else None)


@pytest.fixture
def ledger(tmp_path):
    """A ledger with one trial, interrupted after its epoch 2."""
    ledger = Ledger(tmp_path)
    ledger.record_running(TRIAL, "demo")
    for epoch in range(3):
        ledger.record_epoch(TRIAL, make_record(epoch), b"checkpoint %d" % epoch, wall_seconds=epoch + 0.5)
    return ledger


def checkpoint(ledger: Ledger, name: str):
    return ledger.output_directory / "trials" / TRIAL / name


def test_outcome_comes_back_with_its_files_when_trial_completed(ledger):
    ledger.record_outcome(make_outcome())
    assert Ledger(ledger.output_directory).outcome(TRIAL) == make_outcome()
    assert ledger.result(TRIAL) == make_outcome().result


def test_outcome_is_none_when_trial_is_unknown_or_unfinished(ledger):
    assert ledger.outcome("f" * 16) is None
    assert ledger.outcome(TRIAL) is None
    assert ledger.resume_checkpoint("f" * 16) is None


def test_outcome_is_refused_when_a_file_is_damaged(ledger):
    ledger.record_outcome(make_outcome())
    checkpoint(ledger, "predictions.npz").write_bytes(b"something else")
    with pytest.raises(MissingError, match=r"predictions\.npz"):
        ledger.outcome(TRIAL)


@pytest.mark.parametrize("status", [TrialStatus.COMPLETED, TrialStatus.PRUNED, TrialStatus.DIVERGED])
def test_checkpoints_are_removed_when_status_is_final(ledger, status):
    ledger.record_outcome(make_outcome(status))
    assert ledger.resume_checkpoint(TRIAL) is None
    assert not checkpoint(ledger, "last.ckpt").exists() and not checkpoint(ledger, "previous.ckpt").exists()


def test_checkpoint_stays_when_trial_failed(ledger):
    ledger.record_outcome(make_outcome(TrialStatus.NODE_LOST))
    assert ledger.resume_checkpoint(TRIAL) == b"checkpoint 2"


@pytest.mark.parametrize("damage", [b"checkpoint 3", b"checkp", b""])
def test_resume_takes_previous_checkpoint_when_last_is_damaged(ledger, damage):
    checkpoint(ledger, "last.ckpt").write_bytes(damage)
    point = ledger.begin(TRIAL, "demo")
    assert (point.checkpoint, point.epoch, point.wall_seconds) == (b"checkpoint 1", 1, 1.5)
    assert [record.epoch for record in ledger.epochs(TRIAL)] == [0, 1]


def test_previous_checkpoint_outlives_next_epoch_when_last_was_damaged(ledger):
    checkpoint(ledger, "last.ckpt").write_bytes(b"damaged")
    ledger.begin(TRIAL, "demo")
    ledger.record_epoch(TRIAL, make_record(2), b"checkpoint 2")
    checkpoint(ledger, "last.ckpt").write_bytes(b"damaged again")
    assert ledger.resume_checkpoint(TRIAL) == b"checkpoint 1"


def test_resume_starts_over_when_both_checkpoints_are_damaged(ledger):
    for name in ("last.ckpt", "previous.ckpt"):
        checkpoint(ledger, name).write_bytes(b"damaged")
    assert ledger.begin(TRIAL, "demo") is None
    assert ledger.epochs(TRIAL) == []


def test_epoch_is_replaced_when_it_runs_again(ledger):
    ledger.record_epoch(TRIAL, make_record(2).model_copy(update={"validation_top1": 0.9}), b"again")
    assert [record.validation_top1 for record in ledger.epochs(TRIAL)] == [0.0, 0.1, 0.9]


def test_entry_tells_running_from_interrupted_by_the_lock(ledger):
    with StudyLock(ledger.output_directory, "demo"):
        assert ledger.entries([TRIAL])[TRIAL].state == "running"
    entry = ledger.entries([TRIAL, "f" * 16])[TRIAL]
    assert (entry.state, entry.epoch, entry.best_validation_top1) == ("interrupted", 2, 0.2)


def test_entry_carries_reason_when_trial_failed(ledger):
    ledger.record_outcome(make_outcome(TrialStatus.FAILED))
    entry = ledger.entries([TRIAL])[TRIAL]
    assert (entry.state, entry.reason) == (TrialStatus.FAILED, "why")


def test_failed_result_is_void_when_trial_runs_again(ledger):
    ledger.record_outcome(make_outcome(TrialStatus.FAILED))
    ledger.record_running(TRIAL, "demo")
    assert ledger.result(TRIAL) is None
    assert ledger.entries([TRIAL])[TRIAL].state == "interrupted"


def test_ten_thousand_entries_are_read_in_few_queries(ledger):
    trial_ids = [f"{number:016x}" for number in range(10_000)]
    with ledger._transaction() as connection:
        connection.executemany(
            "INSERT INTO trials (trial_id, study, status) VALUES (?, 'demo', 'COMPLETED')",
            [(one,) for one in trial_ids],
        )
    queries = []
    ledger._connection.set_trace_callback(queries.append)
    assert len(ledger.entries(trial_ids)) == 10_000
    assert len(queries) <= 25


WRITER = """
import sys
from tests.unit.tuning.test_ledger import TRIAL, make_record
from tuning.ledger import Ledger
ledger = Ledger(sys.argv[1])
ledger.record_running(TRIAL, "demo")
epoch = 0
while True:
    ledger.record_epoch(TRIAL, make_record(epoch), b"%09d" % epoch * 20_000)
    print(epoch, flush=True)
    epoch += 1
"""


@pytest.mark.parametrize("num_epochs", [3, 8, 15])
def test_ledger_is_whole_when_its_writer_is_killed(tmp_path, num_epochs):
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as writer:
        acknowledged = [int(writer.stdout.readline()) for _ in range(num_epochs)][-1]
        time.sleep(0.003 * num_epochs)
        writer.send_signal(signal.SIGKILL)
    ledger = Ledger(tmp_path)
    epoch = int(ledger.resume_checkpoint(TRIAL)[:9])
    # The write that was cut short may cost one epoch, and none that was acknowledged before it.
    assert epoch >= acknowledged - 1
    assert [record.epoch for record in ledger.epochs(TRIAL)][: epoch + 1] == list(range(epoch + 1))


HOLDER = """
import sys, time
from tuning.study_lock import StudyLock
with StudyLock(sys.argv[1], "demo"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_second_driver_is_refused_until_the_first_is_gone(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        holder.stdout.readline()
        with pytest.raises(RequestError, match=f"being run by process {holder.pid} on"), StudyLock(tmp_path, "demo"):
            pass
        holder.kill()
        holder.wait()
    with StudyLock(tmp_path, "demo"):
        pass


def test_import_brings_no_heavy_package():
    program = "import sys, tuning.ledger; print({'torch', 'ray', 'mlflow', 'numpy'} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"
