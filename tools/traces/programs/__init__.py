"""What is recorded: a module each, whose docstring says what the program does and why it has these phases.

A module has ``NEEDS``, the programs that must be installed; ``command(folder, seconds)``, the command line that the
emulator gets, for which it may put files into the folder; and maybe ``drive(recorded, folder, seconds)``, which gives
it work from outside, running natively, and ends it; ``INTENTS``, patterns of threads' names and what such threads do;
``ANSWERS`` if that reads the program's standard output; and ``ENVIRONMENT``, variables for it.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
NAMES = ("redis", "apache", "clangd", "java", "cpython", "sort", "zeroing", "ruby")


@dataclass
class Recorded:
    """A program as it is recorded. Its standard input is a pipe."""

    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        """Ask it to end."""
        self.process.send_signal(signal.SIGTERM)


def until(ready: Callable[[], bool], seconds: float = 120) -> None:
    """Wait for something. TimeoutError if it does not come."""
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise TimeoutError(f"not there after {seconds} s: {ready.__name__}")
        time.sleep(0.1)


def ticks(seconds: float, per_second: float) -> Iterator[int]:
    """Numbers from 0, at a rate, for some time; what comes late is not made up for."""
    begin = time.monotonic()
    number = 0
    while (passed := time.monotonic() - begin) < seconds:
        yield number
        number += 1
        time.sleep(max(0.0, min(number / per_second, seconds) - passed))
