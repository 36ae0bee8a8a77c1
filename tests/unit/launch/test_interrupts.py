"""Guards that Ctrl-C is held where it would be lost or leave halves behind, and never lost itself."""

from __future__ import annotations

import signal
import threading
import weakref

import pytest

from launch.interrupts import held_interrupts


class Referent:
    """Something to refer to."""


def interrupt(*_: object) -> None:
    signal.raise_signal(signal.SIGINT)


def test_interruption_is_raised_when_the_block_is_done():
    done = []
    with pytest.raises(KeyboardInterrupt), held_interrupts():
        interrupt()
        done.append("the rest")
    assert done == ["the rest"]


def test_interruption_in_a_callback_that_python_ignores_is_not_lost():
    with pytest.raises(KeyboardInterrupt), held_interrupts():
        one = Referent()
        _watch = weakref.ref(one, interrupt)
        del one


def test_second_interruption_is_raised_at_once():
    done = []
    with pytest.raises(KeyboardInterrupt), held_interrupts():
        interrupt()
        interrupt()
        done.append("the rest")
    assert done == []


def test_interruption_held_in_a_block_in_a_block_is_raised_once_after_the_outer():
    done = []
    with pytest.raises(KeyboardInterrupt), held_interrupts():
        with held_interrupts():
            interrupt()
        done.append("the outer's rest")
    assert done == ["the outer's rest"]


def test_error_of_the_block_stays_the_reason_when_it_is_interrupted_too():
    with pytest.raises(KeyboardInterrupt) as raised, held_interrupts():
        interrupt()
        raise ValueError("wrong")
    assert isinstance(raised.value.__context__, ValueError)


def test_handler_from_before_is_back_after_the_block():
    before = signal.getsignal(signal.SIGINT)
    with held_interrupts():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_run_the_block_as_it_is():
    done = []

    def run() -> None:
        with held_interrupts():
            done.append("run")

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert done == ["run"]
