"""Guards that a lost head ends a run with a reason, and that one that answers does not."""

from __future__ import annotations

import socket
import time

import pytest

from benchmark.errors import MissingError
from launch import head_watch
from launch.head_watch import head_watched
from launch.interrupts import termination_as_interrupt


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(head_watch, "_SECONDS_BETWEEN_QUESTIONS", 0.05)


def test_run_ends_with_a_reason_when_the_head_answers_no_more(quick):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with (
            pytest.raises(MissingError, match="run the same command again"),
            head_watched(address, lost_seconds=0.3),
            termination_as_interrupt(),
        ):
            listener.close()
            time.sleep(20)


def test_run_goes_on_when_the_head_answers(quick):
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        head_watched(f"127.0.0.1:{listener.getsockname()[1]}", lost_seconds=0.3),
    ):
        time.sleep(1.0)


def test_error_is_the_users_own_when_the_head_answers(quick):
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(KeyboardInterrupt),
        head_watched(f"127.0.0.1:{listener.getsockname()[1]}"),
    ):
        raise KeyboardInterrupt
