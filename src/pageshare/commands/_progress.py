"""Progress bars with the time left: on a terminal only, on stderr, gone when they are done."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Show(Protocol):
    """Takes the number of bytes done so far, and what to say after the label."""

    def __call__(self, done: int, more: str = "") -> None:
        """Draw the bar anew."""


@contextmanager
def steps_bar(label: str, steps: int, *, quiet: bool) -> Iterator[Show]:
    """The same for things that are counted, not bytes. Starts no thread: it is drawn only when it is told of a step."""
    if quiet or not sys.stderr.isatty():
        yield lambda done, more="": None  # noqa: ARG005
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False) as bar:
        task = bar.add_task(label, total=steps)

        def show(done: int, more: str = "") -> None:
            bar.update(task, completed=done, description=label + more)
            bar.refresh()

        bar.refresh()
        yield show


@contextmanager
def progress_bar(label: str, total_bytes: int, *, quiet: bool) -> Iterator[Show]:
    """Yield what draws the bar; it does nothing off a terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda done, more="": None  # noqa: ARG005
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.progress import TransferSpeedColumn as SpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        SpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total_bytes)
        yield lambda done, more="": bar.update(task, completed=done, description=label + more)


PARTS = 1000
"""Of the whole, in ``share_bar``."""


@contextmanager
def share_bar(label: str, *, quiet: bool) -> Iterator[Show]:
    """The same for work of which only a share is known, in ``PARTS``."""
    if quiet or not sys.stderr.isatty():
        yield lambda done, more="": None  # noqa: ARG005
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=PARTS)
        yield lambda done, more="": bar.update(task, completed=done, description=label + more)
