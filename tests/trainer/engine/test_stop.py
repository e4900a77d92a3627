"""Signals and time end a run at a step boundary; a second signal ends it at once, unless it is the first once more."""

import os
import signal
import time

import pytest

from trainer.engine.stop import StopWatch, steps_to_next_vote


@pytest.fixture
def stop():
    watch = StopWatch(None)
    yield watch
    watch.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_a_reason(stop, number):
    assert stop.check() is None
    os.kill(os.getpid(), number)
    assert stop.check() == f"stopped by {number.name}"


def handlers():
    return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


def test_an_interrupt_puts_both_handlers_back():
    """torch's launcher passes a first Ctrl-C on as SIGINT, a second as SIGTERM."""
    before = handlers()
    watch = StopWatch(None)
    os.kill(os.getpid(), signal.SIGINT)
    assert handlers() == before
    assert watch.check() == "stopped by SIGINT"


def test_a_request_that_comes_twice_is_one_and_a_later_one_ends_at_once(monkeypatch):
    """scancel reaches a process directly and through its launcher."""
    ended, before = [], signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda number, frame: ended.append(number))
    watch, now = StopWatch(None), time.monotonic()
    for seconds, ends in ((0, 0), (1, 0), (4.9, 0), (5.1, 1)):
        monkeypatch.setattr(time, "monotonic", lambda seconds=seconds: now + seconds)
        os.kill(os.getpid(), signal.SIGTERM)
        assert watch.check() == "stopped by SIGTERM"
        assert len(ended) == ends
    signal.signal(signal.SIGTERM, before)


def test_after_a_request_to_end_an_interrupt_ends_at_once():
    before = handlers()
    watch = StopWatch(None)
    os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGINT) == before[0]
    watch.close()
    assert handlers() == before


def test_a_second_interrupt_ends_at_once():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    watch = StopWatch(None)
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    watch.close()
    signal.signal(signal.SIGINT, before)


def test_time():
    for hours, reason in ((1e-12, "max_hours is over"), (1.0, None)):
        watch = StopWatch(hours)
        assert watch.check() == reason
        watch.close()


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    StopWatch(None).close()
    assert signal.getsignal(signal.SIGTERM) is before


def test_slow_steps_have_a_vote_each_and_quick_ones_share_it():
    assert [steps_to_next_vote(steps, seconds) for steps, seconds in ((1, 20.0), (10, 25.0), (1, 1.0))] == [1, 1, 1]
    assert [steps_to_next_vote(steps, seconds) for steps, seconds in ((1, 0.3), (4, 1.0), (2, 0.4))] == [3, 4, 5]
    assert steps_to_next_vote(10, 0.001) == steps_to_next_vote(1, 0.0) == 10, "they may have become slow by then"
