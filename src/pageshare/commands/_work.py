"""Running a long loop of the core while the main thread draws progress and listens for signals."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import TYPE_CHECKING, TypeVar

from pageshare.commands._inputs import tell
from pageshare.commands._progress import PARTS, Show, progress_bar, share_bar

if TYPE_CHECKING:
    from pageshare.core import Control

T = TypeVar("T")

REDRAW = 0.1


def _progress(control: Control, pages: int, page_size: int) -> tuple[int, str]:
    """Bytes done, of this reading if files are read several times, and which reading it is."""
    reading, readings = control.reading
    done = control.done - max(0, reading - 1) * pages
    more = f", reading {reading} of {readings or 'several'}" if reading else ""
    return max(0, min(done, pages)) * page_size, more


@contextmanager
def _signals_stop(control: Control) -> Iterator[list[BaseException]]:
    """SIGINT and SIGTERM stop the work instead of raising where the main thread happens to be: between two lines of
    which one has started a thread and the other would stop it. What they would have raised is in the list."""
    raised: list[BaseException] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, frame: FrameType | None) -> None:
        handler = before[signal.Signals(number)]
        try:
            if callable(handler):
                handler(number, frame)
        except BaseException as error:
            raised.append(error)
            control.stop()

    ours = [number for number, handler in before.items() if callable(handler)]
    try:
        for number in ours:
            signal.signal(number, stop)
        yield raised
    finally:
        for number in ours:
            signal.signal(number, before[number])


def run_with_progress(
    work: Callable[[], T], control: Control, *, label: str, pages: int, page_size: int, quiet: bool
) -> tuple[T, BaseException | None]:
    """Run ``work`` in a thread; returns its result, and the KeyboardInterrupt or Terminated that came meanwhile.

    A loop in C keeps the main thread from handling signals, so the work goes elsewhere: a signal sets
    ``control.stop()``, and the work ends within milliseconds, with its result or by raising ``Stopped``.
    To be called by the main thread.
    """
    told = quiet or sys.stderr.isatty()  # by the bar

    def look(show: Show) -> None:
        nonlocal told
        show(*_progress(control, pages, page_size))
        if not told and control.reading[1]:
            told = True
            with contextlib.suppress(OSError):
                tell(notes=[f"the files are read {control.reading[1]} times in all"])

    return _run(work, control, label, progress_bar(label, pages * page_size, quiet=quiet), look)


def run_with_share(
    work: Callable[[], T], control: Control, *, label: str, done: Callable[[], float], quiet: bool
) -> tuple[T, BaseException | None]:
    """The same, where ``done`` says which share of the work is done, 0 to 1."""
    return _run(work, control, label, share_bar(label, quiet=quiet), lambda show: show(round(PARTS * done())))


def _run(
    work: Callable[[], T],
    control: Control,
    label: str,
    progress: AbstractContextManager[Show],
    look: Callable[[Show], None],
) -> tuple[T, BaseException | None]:
    outcome: list[T] = []
    failure: list[BaseException] = []
    # Not Thread.join: interrupted by a signal, it takes a running thread for one that has ended.
    done = threading.Event()

    def target() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            failure.append(error)
        finally:
            done.set()

    with _signals_stop(control) as raised, progress as show:
        threading.Thread(target=target, name=label).start()
        while not done.wait(REDRAW):
            look(show)
    interrupt = raised[0] if raised else None
    if failure:
        raise interrupt or failure[0]
    return outcome[0], interrupt
