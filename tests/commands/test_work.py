"""Work in a thread: a signal stops it, at whatever moment it comes."""

import os
import signal
import threading
import time

import pytest

from pageshare.commands._work import run_with_progress
from pageshare.core import Control


def run(work, control):
    return run_with_progress(work, control, label="work", pages=1, page_size=4096, quiet=True)


def until_stopped(control):
    def work():
        while True:
            control.check()
            time.sleep(0.001)

    return work


def test_a_signal_while_the_thread_is_being_started(monkeypatch):
    """The work must end, though nobody waits for it yet."""
    control, start = Control(), threading.Thread.start

    def start_and_interrupt(thread):
        start(thread)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(threading.Thread, "start", start_and_interrupt)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(until_stopped(control), control)
    assert signal.getsignal(signal.SIGINT) is before


def test_work_that_ends_by_itself_after_a_signal_gives_its_result_too():
    control = Control()

    def work():
        os.kill(os.getpid(), signal.SIGINT)
        while not control._c.stop:
            time.sleep(0.001)
        return 7

    result, interrupt = run(work, control)
    assert result == 7
    assert isinstance(interrupt, KeyboardInterrupt)


def test_an_error_in_the_work_is_raised():
    def work():
        raise ValueError("of the work")

    with pytest.raises(ValueError, match="of the work"):
        run(work, Control())


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert run(lambda: os.kill(os.getpid(), signal.SIGINT) or 3, Control()) == (3, None)
    finally:
        signal.signal(signal.SIGINT, before)
