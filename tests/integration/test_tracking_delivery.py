import logging
import threading

import pytest

from benchmark.result import TrialStatus
from benchmark.tracking import Delivery, StoreUnavailableError, delivery

from . import tracking_samples as samples

SPEC = samples.trial_spec()
OUTCOME = samples.ended(SPEC, TrialStatus.FAILED, "because")


class RecordingTracker:
    """Stands for a StudyTracker; its first calls raise the given errors."""

    def __init__(self, *errors):
        self.errors = list(errors)
        self.calls = []

    def start_trial(self, trial_id, spec):
        self.answer("start", trial_id)

    def log_epochs(self, trial_id, records):
        self.answer("epochs", len(records))

    def finish_trial(self, outcome):
        self.answer("finish", outcome.result.trial_id)

    def answer(self, *call):
        if self.errors:
            raise self.errors.pop(0)
        self.calls.append(call)


@pytest.fixture(autouse=True)
def _short_retries(monkeypatch):
    monkeypatch.setattr(delivery, "FIRST_RETRY_SECONDS", 0.01)


def test_everything_arrives_in_order_when_the_store_answers():
    tracker = RecordingTracker()
    queue = Delivery(tracker)
    queue.start_trial(SPEC.trial_id, SPEC)
    queue.log_epochs(SPEC.trial_id, samples.epochs(0, 2))
    queue.finish_trial(SPEC.trial_id, lambda: OUTCOME)
    outcome = queue.close(10.0)
    assert tracker.calls == [("start", SPEC.trial_id), ("epochs", 3), ("finish", SPEC.trial_id)]
    assert (outcome.undelivered_trial_ids, outcome.error) == ((), None)


def test_epochs_that_wait_go_in_one_request_when_the_store_is_slow():
    tracker, begun, may_go_on = RecordingTracker(), threading.Event(), threading.Event()
    queue = Delivery(tracker)

    def load_slowly():
        begun.set()
        may_go_on.wait(10)
        return OUTCOME

    queue.finish_trial("earlier", load_slowly)
    assert begun.wait(10)
    for epoch in range(3):
        queue.log_epochs("one", samples.epochs(epoch, epoch))
        queue.log_epochs("other", samples.epochs(epoch, epoch))
    may_go_on.set()
    queue.close(10.0)
    assert tracker.calls[1:] == [("epochs", 3), ("epochs", 3)]


def test_no_epoch_is_lost_when_the_store_comes_back_meanwhile():
    logged, answers, failed = [], threading.Event(), threading.Event()
    tracker = RecordingTracker()

    def log_epochs(trial_id, records):
        if not answers.is_set():
            failed.set()
            raise StoreUnavailableError("down")
        logged.extend(record.epoch for record in records)

    tracker.log_epochs = log_epochs
    queue = Delivery(tracker)
    queue.log_epochs("one", samples.epochs(0, 1))
    assert failed.wait(10)
    queue.log_epochs("one", samples.epochs(2, 2))
    answers.set()
    queue.log_epochs("one", samples.epochs(3, 3))
    queue.close(10.0)
    assert logged == [0, 1, 2, 3]


def test_delivery_is_repeated_when_the_store_comes_back(caplog):
    tracker = RecordingTracker(StoreUnavailableError("down"), StoreUnavailableError("still down"))
    queue = Delivery(tracker)
    queue.finish_trial(SPEC.trial_id, lambda: OUTCOME)
    outcome = queue.close(10.0)
    assert tracker.calls == [("finish", SPEC.trial_id)]
    assert (outcome.undelivered_trial_ids, outcome.error) == ((), None)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2  # once down, once up


def test_undelivered_trials_are_named_when_the_store_stays_away():
    queue = Delivery(RecordingTracker(*[StoreUnavailableError("down")] * 10_000))
    queue.finish_trial("first", lambda: OUTCOME)
    queue.finish_trial("second", lambda: OUTCOME)
    outcome = queue.close(0.2)
    assert outcome.undelivered_trial_ids == ("first", "second")
    assert isinstance(outcome.error, StoreUnavailableError)


def test_the_rest_is_delivered_when_one_delivery_fails_unexpectedly(caplog):
    tracker = RecordingTracker(TypeError("a bug"), TypeError("the same bug"))
    queue = Delivery(tracker)
    queue.finish_trial("first", lambda: OUTCOME)
    queue.finish_trial("second", lambda: OUTCOME)
    queue.finish_trial("third", lambda: OUTCOME)
    outcome = queue.close(10.0)
    assert len(tracker.calls) == 1
    assert outcome.undelivered_trial_ids == ("first", "second")
    assert str(outcome.error) == "a bug"
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_close_returns_in_time_when_the_tracker_hangs():
    released = threading.Event()
    tracker = RecordingTracker()
    tracker.answer = lambda *call: released.wait(30)
    queue = Delivery(tracker)
    queue.finish_trial(SPEC.trial_id, lambda: OUTCOME)
    outcome = queue.close(0.1)
    released.set()
    assert outcome.undelivered_trial_ids == (SPEC.trial_id,)
